"""Data and a model -> bits per character and token ranks."""

from __future__ import annotations

from dataclasses import asdict, replace

from micota.analysis.likelihood import bits_of
from micota.artifacts.jsonl import read_jsonl
from micota.errors import ArtifactError
from micota.forward.nll import Measures, completion_measures
from micota.graph.specs import LikelihoodSpec
from micota.pretrained import rope_border
from micota.records import BPC, DATA, Example, ExampleScore
from micota.runtime.forward import open_model, open_tokenizer, read_sequences
from micota.runtime.inputs import input_path
from micota.runtime.work import Work
from micota.sft.packing import tokenise
from micota.sft.shape import Shape


def likelihood(work: Work[LikelihoodSpec]) -> None:
    """Bits per character (per byte of UTF-8) and token ranks of the data of a recipe under the student before SFT; one
    row for each example, in the order of the data."""
    data = input_path(work.store, work.node.inputs["data"]) / DATA
    examples = read_jsonl(data, Example)
    empty = next((number for number, example in enumerate(examples, start=1) if not example.completion), None)
    if empty is not None:
        raise ArtifactError(
            f"{data}:{empty}: the completion is empty, so that it has no bits per byte; accepted: rows with completions"
        )
    tokenizer = open_tokenizer(work, work.node.inputs["model"])
    model = open_model(work, work.node.inputs["model"])
    # The likelihood is that of the completion alone, also where training learns earlier turns.
    tokens = [tokenise(tokenizer, replace(example, learn_all=False)) for example in examples]

    def rows_of(batch: list[int]) -> list[ExampleScore]:
        found = completion_measures(model, [tokens[index] for index in batch], work.node.spec.rank_clip)
        return [score(index, measures) for index, measures in zip(batch, found, strict=True)]

    def score(index: int, measures: Measures) -> ExampleScore:
        text = examples[index].completion
        return ExampleScore(
            index=index,
            problem_id=examples[index].problem_id,
            source=examples[index].source,
            num_bytes=len(text.encode("utf-8", "surrogatepass")),
            num_characters=len(text),
            num_tokens=len(tokens[index].ids) - tokens[index].num_prompt,
            **asdict(measures),
        )

    rows = read_sequences(work, BPC, ExampleScore, tokens, rows_of, rope_border(model.config))
    work.build.counts |= {"examples": len(rows), "num_parameters": model.num_parameters()}
    work.build.metrics |= asdict(bits_of(rows))
    lengths = [len(one.ids) for one in tokens]
    work.build.metrics["flops_forward"] = Shape.of(model).forward_flops(lengths, sum(row.num_tokens for row in rows))
    if work.node.inputs["model"].is_source:  # between rounds, the steps of the run are those of training
        work.run.log({"data/bits_per_byte": work.build.metrics["bits_per_byte"]})
