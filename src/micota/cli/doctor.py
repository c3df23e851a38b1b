"""The command doctor: what a training run would learn and need, before it starts."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.text import Text

from micota import graph
from micota.artifacts.store import Store
from micota.cli.determinism import determinism as repeat
from micota.config import DoctorConfig, TrainerConfig
from micota.console import open_console
from micota.errors import USER_ERROR, UserError
from micota.graph.node import AnyNode
from micota.graph.specs import DataSpec
from micota.graph.teachers import teacher_of
from micota.runtime.execute import execute, naming_keys, perform
from micota.runtime.plan import missing, pending, tasks_of

COLOURS = {"ok": "green", "unknown": "yellow", "refused": "bold red"}


def doctor(config: DoctorConfig) -> None:
    """Print the findings, and exit with code 2 if training would be refused. The plan is that of the training. With
    ``determinism`` an evaluation is repeated instead."""
    if config.determinism:
        repeat(config)
        return
    if config.plan:
        execute(config, "train", [graph.trained(config, config.role)])
        return
    from micota.cli.show_samples import CLOSE, OPEN, marked  # which imports torch
    from micota.sft.preflight import Preflight

    report = Preflight(lambda: naming_keys(config))
    tokenizer, tokens = examine(config, report)
    sample = None if tokens is None else marked(tokenizer, tokens)
    if config.json:
        shown = {"ready": report.is_ready, "findings": [asdict(finding) for finding in report.findings]}
        print(json.dumps(shown | {"sample": None if sample is None else sample.plain}, ensure_ascii=False, indent=2))
    else:
        console = open_console()
        show(report, console)
        if sample is not None:
            console.rule(Text(f"the first example as the model sees it; learnt: {OPEN}...{CLOSE}"))
            console.print(sample)
    if not report.is_ready:
        sys.exit(USER_ERROR)


def show(report: Any, console: Console) -> None:
    """Print one line for each finding."""
    width = max(len(finding.name) for finding in report.findings)
    for finding in report.findings:
        line = Text(f"{finding.name:{width}}  ")
        line.append(f"{finding.status:7}", COLOURS[finding.status])
        console.print(line.append(f"  {finding.text}"))


def examine(config: DoctorConfig, report: Any) -> tuple[Any, Any]:
    """Fill the report; returns the tokenizer and the tokens of an example, None where they cannot be had."""
    from micota.runtime.inputs import model_location, tokenizer_for
    from micota.sft.continuing import check_settings
    from micota.sft.preflight import find_data, find_tokens
    from micota.stages import teachers

    node = graph.rounds_of(graph.trained(config, config.role))[0]
    config = placed(config, node)
    store, source = Store(config.artifacts), node.inputs["model"]
    tokenizer = tokens = location = None
    find_devices(config, report)
    with report.finding("tokenizer") as found:
        location = model_location(store, source)
        tokenizer = tokenizer_for(store, source)
        found.text = f"{type(tokenizer).__name__} of {location[0]}, {len(tokenizer)} tokens"
        found.values = {"class": type(tokenizer).__name__, "tokens": len(tokenizer)}
    if (shorter := config.trainer.continue_from) is not None:
        with report.finding("start") as found:
            check_settings(Path(shorter), node)
            found.text = f"the end of {shorter}"
    if (teacher := teacher_of(node)) is not None:
        with report.finding("teacher's tokens") as found:
            teachers.check(config, node)
            found.text = f"those of {teacher.name} are the student's"
    inputs = read(config, store, node, report)
    if tokenizer is not None:
        with report.finding("sample") as found:
            example = first(store, node, inputs, tokenizer)
            found.text = f"problem {example.problem_id}"
        if found.status == "ok":
            tokens = find_tokens(report, tokenizer, example)
    if inputs is not None:
        find_data(report, inputs, node.spec, config.trainer)
    if location is not None:
        find_run(config, report, node, location, tokenizer, inputs)
    return tokenizer, tokens


def placed(config: DoctorConfig, node: AnyNode) -> DoctorConfig:
    """The config with the trainer that training takes, on as few devices as the model needs where their number is open:
    of those here, or of ``hardware`` on a machine without GPUs."""
    from micota.machine import gpus
    from micota.runtime.placing import sizes_to_train, with_devices
    from micota.sft.fitting import fewest_devices

    open_config, hardware = config.placed(node.runs), config.hardware
    trainer = open_config.trainer
    known = capacity(config, trainer) if trainer.accelerator == hardware.accelerator == "gpu" else None
    if trainer.devices is not None or gpus() or known is None:
        return replace(config, trainer=with_devices(open_config, node).trainer)
    count = 1
    if (sizes := sizes_to_train(node, open_config.engine.embedded_rows)) is not None:
        count = fewest_devices(sizes, trainer, node.spec.sft.max_tokens, known, hardware.num_devices or 1)
    return replace(config, trainer=replace(trainer, devices=count))


def find_devices(config: DoctorConfig, report: Any) -> None:
    """Find out whether this machine could train. Another machine may be meant, so that nothing is refused."""
    from micota.stages.train import check_devices

    with report.finding("devices") as found:
        trainer = config.trainer
        found.text = f"{trainer.world_size} x {trainer.accelerator}"
        found.values = {"devices": trainer.world_size, "accelerator": trainer.accelerator}
        try:
            check_devices(config)
        except UserError as error:
            found.status, found.text = "unknown", f"{found.text}; not on this machine: {error}"


def find_run(config: DoctorConfig, report: Any, node: AnyNode, location: Any, tokenizer: Any, inputs: Any) -> None:
    """Find out about the model, its memory, its disk and its export, by the checks of training."""
    from micota.runtime.inputs import model_location
    from micota.sft.checks import Run
    from micota.sft.preflight import find_model
    from micota.sft.shape import Shape
    from micota.stages.teachers import source_of

    student, trainer = config.ta if config.role == "ta" else config.student, config.trainer
    longest = node.spec.sft.max_tokens if inputs is None else inputs.longest
    sizes = None if student.shape is None else Shape.to_train(student.shape, node.spec.sft)
    folder, store, teacher = Path(config.artifacts), Store(config.artifacts), None
    if (source := node.inputs.get("teacher")) is not None:
        with report.finding("teacher's files") as found:
            is_made = source.is_source or store.manifest(source) is not None
            teacher = model_location(store, source if is_made else source_of(source))
            found.text = (
                teacher[0] if is_made else f"{source.name} is not made yet; by {teacher[0]}, which it is made of"
            )
    with TemporaryDirectory() as scratch:
        find_model(report, Run(
            location, node.spec, trainer, longest, folder, capacity(config, trainer), tokenizer,
            Path(scratch) / "rehearsal", teacher, inputs, sizes, answer_rows=config.engine.embedded_rows,
        ))  # fmt: skip


def read(config: DoctorConfig, store: Store, node: AnyNode, report: Any) -> Any:
    """The inputs of training; None where the data needs a model and is not made yet, or training would refuse it."""
    from micota.stages.train import read_inputs
    from micota.tracking import NoRun

    inputs = None
    with report.finding("data") as found:
        todo = pending(store, [child for child in node.inputs.values() if not child.is_source])
        if any(not isinstance(child.spec, DataSpec) for child in todo):
            found.status, found.text = "unknown", missing(config, tasks_of(todo), [node])
            return None
        for task in tasks_of(todo):
            perform(config, store, task, Console(stderr=True), run=NoRun())
        inputs = read_inputs(store, node)
        found.text = str(store.path(node.inputs["data"]))
    return inputs


def first(store: Store, node: AnyNode, inputs: Any, tokenizer: Any) -> Any:
    """The first example of the data, or a made-up one with the first problem."""
    from micota.artifacts.jsonl import read_jsonl
    from micota.data.prompts import messages
    from micota.data.sources import load_questions
    from micota.records import DATA, Example
    from micota.sft.preflight import sample_of

    data = node.inputs["data"]
    if inputs is not None:
        return inputs.examples[inputs.chosen[0]]
    if store.manifest(data) is not None and (examples := read_jsonl(store.verified(data) / DATA, Example)):
        return examples[0]
    answered = [one.inputs["completions"] for one in (data, *data.inputs.values()) if "completions" in one.inputs]
    question, prompt = "1 + 1", graph.Prompt(template="{problem}", system=None)
    if answered:
        prompt = answered[0].spec.prompt
        question = load_questions(answered[0].spec.questions)[0].problem
    return sample_of(tokenizer, messages(question, prompt), question)


def capacity(config: DoctorConfig, trainer: TrainerConfig) -> int | None:
    """Bytes of a device: of this machine, or of ``hardware`` where it has no GPU and one is to train."""
    import torch

    from micota.sft.device import device_bytes

    if trainer.accelerator == "cpu" or torch.cuda.is_available():
        return device_bytes(trainer)
    known = config.hardware.memory_gib if config.hardware.accelerator == "gpu" else None
    return None if known is None else int(known * 2**30)
