"""What a training run would learn and need, found out without weights: the findings of ``micota doctor``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from micota.config import TrainerConfig
from micota.data.prompts import PAIRS, prefilled, render
from micota.data.round_trip import check_round_trip
from micota.data.turns import end_of_turn
from micota.errors import UserError
from micota.graph import TrainSpec
from micota.records import Example
from micota.sft.checks import CHECKS, Run
from micota.sft.data import Inputs, SftDataModule
from micota.sft.packing import Tokens, tokenise

OK, UNKNOWN, REFUSED = "ok", "unknown", "refused"


@dataclass
class Finding:
    """One finding: ``ok``, ``unknown`` where it cannot be found out here, or ``refused``, with the error that training
    would end in. ``values`` has its numbers for other programs."""

    name: str
    status: str = OK
    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)


class Preflight:
    """The findings of one run, in order."""

    def __init__(self, naming: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        """``naming`` adds the keys of the command to user errors, where they lack them."""
        self.findings: list[Finding] = []
        self._naming = naming

    @property
    def is_ready(self) -> bool:
        """Whether nothing is refused."""
        return all(finding.status != REFUSED for finding in self.findings)

    @contextmanager
    def finding(self, name: str) -> Iterator[Finding]:
        """Collect one finding; a user error within makes it ``refused``, and the next ones follow all the same."""
        found = Finding(name)
        self.findings.append(found)
        try:
            with self._naming():
                yield found
        except UserError as error:
            found.status, found.text = REFUSED, str(error)


def sample_of(tokenizer: Any, messages: list[dict[str, str]], question: str) -> Example:
    """A made-up example for a run without data, with a thought where the chat template opens one."""
    tag = prefilled(render(tokenizer, messages)).strip()
    thought = f"{tag}\n{question}\n{PAIRS[tag]}\n\n" if tag else ""
    return Example(problem_id="sample", messages=messages, completion=f"{thought}2", num_tokens=0, source="sample")


def find_tokens(report: Preflight, tokenizer: Any, example: Example) -> Tokens | None:
    """Find out about the template, the end of a turn and the texts of an example; returns its tokens."""
    tokens = None
    with report.finding("template") as found:
        tokens = tokenise(tokenizer, example)
        found.text = f"every message stands in it; {len(tokens.ids)} tokens, {tokens.num_supervised} learnt"
        found.values = {"tokens": len(tokens.ids), "supervised": tokens.num_supervised}
    with report.finding("end of turn") as found:
        end = end_of_turn(tokenizer)
        found.values = {"text": end.text, "id": end.id, "from_template": end.from_template}
        found.values["eos_token"] = tokenizer.eos_token
        where = "of the chat template" if end.from_template else "the tokenizer's eos, as the template marks no end"
        found.text = f"{end.text!r} (id {end.id}), {where}"
        if end.id != tokenizer.eos_token_id:
            found.text += f"; the tokenizer's eos is {tokenizer.eos_token!r}, and the export ends at both"
    with report.finding("texts") as found:
        check_round_trip(tokenizer, [*(turn["content"] for turn in example.messages), example.completion])
        found.text = "the tokenizer gives them back unchanged"
    return tokens


def find_data(report: Preflight, inputs: Inputs, spec: TrainSpec, trainer: TrainerConfig) -> None:
    """Find out about the examples and the steps."""
    with report.finding("examples") as found:
        trained = len(inputs.examples) - inputs.num_validation  # those for validation alone stand after them
        lengths = inputs.tokens.lengths[:trained]
        used = [lengths[index] for index in inputs.chosen]
        too_long = len(lengths) - len(used) - inputs.num_beyond_context - inputs.num_past_end
        found.values = {
            "examples": len(lengths), "used": len(used), "problems": len(set(inputs.divided_by[:trained])),
            "dropped_too_long": too_long, "dropped_beyond_context": inputs.num_beyond_context,
            "dropped_past_end": inputs.num_past_end, "cut": inputs.num_cut,
            "tokens": sum(used), "median_tokens": int(statistics.median(used)), "longest_tokens": max(used),
            "supervised_tokens": sum(inputs.tokens[index].num_supervised for index in inputs.chosen),
        }  # fmt: skip
        found.text = (
            f"{len(used)} of {len(lengths)} used; {too_long} longer than sft.max_tokens={spec.sft.max_tokens} dropped, "
            f"{inputs.num_beyond_context} longer than the model's context dropped, {inputs.num_past_end} that go on "
            f"after their end dropped, {inputs.num_cut} cut; "
            f"median {found.values['median_tokens']} tokens, longest {max(used)}"
        )
    with report.finding("steps") as found:
        data = SftDataModule(
            inputs.tokens, spec.sft, trainer, spec.seed, inputs.chosen, inputs.divided_by, inputs.border,
            inputs.validation,
        )  # fmt: skip
        validation = [index for step in data.validation_steps for index in step]
        problems = len({inputs.divided_by[index] for index in validation})
        found.values = {"steps": len(data.steps), "validation_examples": len(validation)}
        found.text = f"{len(data.steps)} optimiser steps of {spec.sft.batch_size}"
        if validation:
            found.text += f"; {len(validation)} examples of {problems} problems validate"


def find_model(report: Preflight, run: Run) -> None:
    """Find out about all else by the checks of training, without those that read a model whose files cannot be read."""
    for check in CHECKS:
        if not check.applies(run) or (check.reads and not run.is_readable):
            continue
        if not run.is_readable and run.sizes is None and check.name != "settings":
            continue
        with report.finding(check.name) as found:
            answer = check.answer(run)
            found.text, found.values = answer.text, answer.values
            found.status = OK if answer.is_known else UNKNOWN
        if check.name == "model":
            run.is_readable = found.status != REFUSED
        if found.status == REFUSED and found.text in [other.text for other in report.findings[:-1]]:
            report.findings.pop()  # what several checks meet is one finding
