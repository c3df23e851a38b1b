"""Examples -> token ids with the prompt masked -> packed batches in which no sequence attends to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jinja2 import TemplateError

from micota.data.prompts import PAIRS, prefilled, render, token_ids
from micota.data.turns import TurnEnd, end_of_turn, end_within, left_out, without_end
from micota.errors import ConfigError
from micota.records import Example

IGNORED = -100  # label of positions without loss, as in torch.nn.functional.cross_entropy


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One example: prompt + completion + end of turn; ``num_prompt`` leading ids carry no loss.

    ``gaps`` are later spans without loss, as ``(start, end)``: what stands between the learnt turns of a conversation.
    """

    ids: list[int]
    num_prompt: int
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def prompt(self) -> list[int]:
        """The ids before the last completion."""
        return self.ids[: self.gaps[-1][1] if self.gaps else self.num_prompt]

    @property
    def num_supervised(self) -> int:
        """The number of ids with loss."""
        return len(self.ids) - self.num_prompt - sum(end - start for start, end in self.gaps)


class PastEndError(ConfigError):
    """A completion goes on after the end of its turn (``mark``): a model that learns it stops there."""

    def __init__(self, problem_id: str, mark: str) -> None:
        super().__init__(
            f"the completion of problem {problem_id!r} goes on after the end of its turn ({mark}), at which generation "
            "stops; accepted: one answer, without tokens of the chat template"
        )
        self.problem_id, self.mark = problem_id, mark


def tokenise(tokenizer: Any, example: Example) -> Tokens:
    """The ids of a training example: the prompt as rendered for generation, the completion, and the end of its turn.

    The mask covers a span, not token ids, so that the end is learnt even if it is the padding token. What a completion
    has of its own is removed and so not doubled: the header of the turn and a tag that the template opens in the
    prompt, and the end.

    Raises:
        ConfigError: the template cannot render the messages, leaves one out, or opens a thought that is not closed.
        PastEndError: the completion goes on after the end of its turn.
    """
    end = end_of_turn(tokenizer)
    example = _without_ends(tokenizer, example, end)
    rendered = _rendered(tokenizer, example, example.messages)
    check_turns(rendered, example)
    opened = prefilled(rendered)
    example = _without_header(tokenizer, example, rendered, opened)
    if (mark := end_within(example.completion, tokenizer, end)) is not None:
        raise PastEndError(example.problem_id, mark)
    if opened and PAIRS[opened.strip()] not in example.completion:
        raise ConfigError(
            f"the chat template opens a thought ({opened.strip()}) in the prompt, and the completion of problem "
            f"{example.problem_id!r} does not end one; accepted: data of a generator that thinks, with "
            "select.thinking=tagged, or a template that does not open one"
        )
    pieces = _pieces(tokenizer, example, rendered, end) if example.learn_all else [(rendered, False)]
    ids: list[int] = []
    gaps: list[tuple[int, int]] = []
    # One call for each piece, so that no token spans a border: generation tokenises the prompt alone, too.
    # The rendered text already contains the special tokens.
    for text, is_learnt in pieces:
        start = len(ids)
        ids += token_ids(tokenizer, text)
        if not is_learnt:
            gaps.append((start, len(ids)))
    ids += token_ids(tokenizer, _unopened(example.completion, opened))
    return Tokens(ids=[*ids, end.id], num_prompt=gaps[0][1], gaps=tuple(gaps[1:]))


def _without_ends(tokenizer: Any, example: Example, end: TurnEnd) -> Example:
    """An example whose answers have no end of turn, which the template and training write."""
    turns = [
        turn | {"content": without_end(turn["content"], tokenizer, end)} if turn["role"] == "assistant" else turn
        for turn in example.messages
    ]
    return replace(example, messages=turns, completion=without_end(example.completion, tokenizer, end))


def _without_header(tokenizer: Any, example: Example, rendered: str, opened: str) -> Example:
    """An example whose completion does not begin with the header of its turn, with which the prompt ends."""
    text = example.completion.lstrip()
    if not text.startswith(tuple(getattr(tokenizer, "get_added_vocab", dict)())):
        return example
    plain: str = tokenizer.apply_chat_template(example.messages, tokenize=False, add_generation_prompt=False)
    header = rendered.removeprefix(plain).removesuffix(opened) if rendered.startswith(plain) else ""
    if not header.strip() or not text.startswith(header.strip()):
        return example
    return replace(example, completion=text.removeprefix(header.strip()).removeprefix(header[len(header.rstrip()) :]))


def check_turns(rendered: str, example: Example) -> None:
    """Refuse messages that the chat template leaves out, as many do with roles that they do not know.

    Raises:
        ConfigError: the text names the role and the turn.
    """
    turn = left_out(rendered, example.messages)
    if turn is not None:
        raise ConfigError(
            f"the chat template leaves out the turn of {turn['role']!r} ({turn['content'][:60]!r}) of problem "
            f"{example.problem_id!r}; accepted: roles that it renders, most often system, user and assistant"
        )


def _pieces(tokenizer: Any, example: Example, rendered: str, end: TurnEnd) -> list[tuple[str, bool]]:
    """The rendered conversation in pieces, each with whether it is learnt: the turns of the assistant, with the end of
    the turn where the template marks it by eos.

    Raises:
        ConfigError: the template changes an earlier answer, so that it is not where its own prompt ends.
    """
    pieces: list[tuple[str, bool]] = []
    done = 0
    for index, turn in enumerate(example.messages):
        if turn["role"] != "assistant":
            continue
        prompt = _rendered(tokenizer, example, example.messages[:index])
        answer = next(
            (text for text in (turn["content"], turn["content"].strip()) if rendered.startswith(prompt + text)), None
        )
        if answer is None or len(prompt) < done:
            raise ConfigError(
                f"the chat template changes an earlier answer of problem {example.problem_id!r} "
                f"({turn['content'][:60]!r}), as templates that drop thoughts do; accepted: data.turns=last, which "
                "learns the last answer alone"
            )
        stop = len(prompt) + len(answer)
        stop += len(end.text) if rendered.startswith(end.text, stop) else 0
        pieces += [(rendered[done : len(prompt)], False), (rendered[len(prompt) : stop], True)]
        done = stop
    return [*pieces, (rendered[done:], False)]


def _rendered(tokenizer: Any, example: Example, conversation: list[dict[str, str]]) -> str:
    try:
        return render(tokenizer, conversation)
    # Templates fail in many ways: they add texts to numbers or raise errors of jinja. transformers raises ValueErrors.
    except (TemplateError, TypeError, ValueError) as error:
        roles = [message["role"] for message in example.messages]
        raise ConfigError(
            f"the chat template of the tokenizer cannot render the messages of problem {example.problem_id!r}, whose "
            f"roles are {roles} ({error}); use messages that it accepts, as with prompt.system=null"
        ) from error


def _unopened(completion: str, opened: str) -> str:
    """A completion without the opening tag at the end of the prompt, and without the white space after it."""
    tag = opened.strip()
    if not tag or not completion.lstrip().startswith(tag):
        return completion
    after = completion.lstrip().removeprefix(tag)
    white = opened.removeprefix(tag)
    return after.removeprefix(white)


def fits(lengths: Sequence[int], max_tokens: int) -> list[int]:
    """Indices of sequences of at most ``max_tokens``. Longer ones are dropped: a cut target has no answer or end. Those
    without tokens could not be tokenised."""
    return [index for index, length in enumerate(lengths) if 0 < length <= max_tokens]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: indices of sequences per row, no row longer than ``capacity`` (or its one sequence)."""
    rows: list[list[int]] = []
    free: list[int] = []
    # Longest first, ties by index, so that the same examples always give the same rows.
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        fitting = [row for row in range(len(rows)) if free[row] >= lengths[index]]
        if fitting:
            # The fullest row that fits (best fit), so that large gaps stay for later.
            best = min(fitting, key=lambda row: free[row])
            rows[best].append(index)
            free[best] -= lengths[index]
        else:
            rows.append([index])
            free.append(capacity - lengths[index])
    return rows


Batch = dict[str, torch.Tensor]


def collate(sequences: Sequence[Tokens], capacity: int) -> Batch:
    """Pack sequences into one batch of rows; see :func:`lay_out`."""
    return lay_out(sequences, pack([len(tokens.ids) for tokens in sequences], capacity))


def lay_out(sequences: Sequence[Tokens], rows: Sequence[Sequence[int]]) -> Batch:
    """Lay out the sequences of each row, given by index in ``rows``, one after the other.

    Returns:
        ``input_ids``, ``position_ids`` (restarting at 0 in each sequence, so that models attend only within it) and
        ``labels`` (next-token targets, aligned with the position that predicts them), each rows x longest row.
    """
    width = max(sum(len(sequences[index].ids) for index in row) for row in rows)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    # The padding at the end of a row is separate sequences, so that nothing attends to it. None is longer than the
    # longest sequence: rotary embeddings may depend on the largest position (longrope).
    longest = max(len(sequences[index].ids) for row in rows for index in row)
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        start = 0
        for index in row:
            tokens = sequences[index]
            length = len(tokens.ids)
            span = torch.tensor(tokens.ids)
            ids[number, start : start + length] = span
            positions[number, start : start + length] = torch.arange(length)
            # Position t predicts token t + 1: the last prompt token predicts the first of the completion, eos nothing.
            labels[number, start + tokens.num_prompt - 1 : start + length - 1] = span[tokens.num_prompt :]
            for gap_start, gap_end in tokens.gaps:
                labels[number, start + gap_start - 1 : start + gap_end - 1] = IGNORED
            start += length
        positions[number, start:] = torch.arange(width - start) % longest
    return {"input_ids": ids, "position_ids": positions, "labels": labels}


def borders(position_ids: torch.Tensor) -> dict[str, Any]:
    """Borders of sequences in concatenated rows, under the names that transformers passes to attention kernels.

    Args:
        position_ids: rows x width, 0 where a sequence begins (the padding of a row is a separate sequence).
    """
    flat = position_ids.flatten()
    # Positions restart at 0 in every sequence and at every row, so no sequence crosses the end of a row.
    starts = (flat == 0).nonzero()[:, 0]
    ends = torch.cat([starts, starts.new_tensor([len(flat)])])
    lengths = ends.diff().tolist()
    edges = ends.to(torch.int32)  # as FlashAttention's kernels expect: 0, then the end of each sequence
    longest = max(lengths)
    return {
        "lengths": lengths,
        "cu_seq_lens_q": edges,
        "cu_seq_lens_k": edges,
        "max_length_q": longest,
        "max_length_k": longest,
    }
