"""Completions of a tuned model and the model before tuning -> the ranks of their tokens before tuning."""

from __future__ import annotations

from typing import Any

from micota.analysis.shifts import KINDS, token_shifts
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.data.prompts import prompt_text
from micota.data.sources import load_questions
from micota.data.turns import end_of_turn
from micota.forward.token_ranks import token_ranks
from micota.graph import CompletionsSpec
from micota.graph.specs import RankShiftSpec
from micota.pretrained import rope_border
from micota.records import COMPLETIONS, RANKS, TOKEN_SHIFTS, Completion, RankedResponse
from micota.runtime.forward import open_model, open_tokenizer, read_sequences
from micota.runtime.inputs import input_path
from micota.runtime.work import Work
from micota.sft.packing import Tokens


def rank_shift(work: Work[RankShiftSpec]) -> None:
    """Write the ranks of all tokens (one row for each completion) and statistics of each token of the vocabulary."""
    before, completions = work.node.inputs["model"], work.node.inputs["completions"]
    rows = read_jsonl(input_path(work.store, completions) / COMPLETIONS, Completion)
    rows.sort(key=lambda row: (row.problem_id, row.sample))  # stored in the order in which they finished
    tokenizer = open_tokenizer(work, before)
    tokens = tokens_of(tokenizer, completions.spec, rows)
    model = open_model(work, before)

    def rows_of(batch: list[int]) -> list[RankedResponse]:
        ranks_of_batch = token_ranks(model, [tokens[index] for index in batch])
        return [response(index, ranks) for index, ranks in zip(batch, ranks_of_batch, strict=True)]

    def response(index: int, ranks: list[int]) -> RankedResponse:
        return RankedResponse(
            index=index,
            problem_id=rows[index].problem_id,
            sample=rows[index].sample,
            token_ids=tokens[index].ids[tokens[index].num_prompt :],
            ranks=ranks,
        )

    ranked = read_sequences(work, RANKS, RankedResponse, tokens, rows_of, rope_border(model.config))
    shifts = token_shifts(ranked, lambda token: str(tokenizer.decode([token])))
    write_jsonl(work.build.path / TOKEN_SHIFTS, shifts)
    total = sum(row.count for row in shifts)
    work.build.counts |= {"responses": len(ranked), "tokens": total}
    for kind in KINDS:
        work.build.metrics[f"share_{kind}"] = sum(getattr(row, f"num_{kind}") for row in shifts) / total
    work.build.metrics["mean_rank"] = sum(row.mean_rank * row.count for row in shifts) / total


def tokens_of(tokenizer: Any, spec: CompletionsSpec, rows: list[Completion]) -> list[Tokens]:
    """Prompt and completion as token ids, with the end of its turn after a completion that the model ended.

    Completions are stored as text and tokenised again. The tokens are nearly always those that were sampled.
    """
    problems = {question.id: question.problem for question in load_questions(spec.questions)}

    def plain(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    sequences = []
    for row in rows:
        prompt = plain(prompt_text(tokenizer, problems[row.problem_id], spec.prompt))
        end = [end_of_turn(tokenizer).id] if row.finish_reason == "stop" else []
        sequences.append(Tokens(ids=[*prompt, *plain(row.completion), *end], num_prompt=len(prompt)))
    return sequences
