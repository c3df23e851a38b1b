"""Data and a model -> bits per character."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.analysis.bpc import bits_per, example_scores
from micota.artifacts import read_jsonl, write_jsonl
from micota.console import progress_bar
from micota.packing import tokenise
from micota.records import BPC, DATA, Example, ExampleScore
from micota.stages.inputs import check_device, input_path, model_location
from micota.stages.make import Work


def measure(work: Work) -> None:
    """Bits per character of an arm's data under the untouched student."""
    check_device(work.config.trainer.accelerator, "trainer")
    folder, revision = model_location(work.store, work.node.inputs["model"])
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, revision=revision)
    dtype = torch.float32 if work.node.spec.precision == "32-true" else torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(folder, revision=revision, dtype=dtype)
    model.to("cuda" if work.config.trainer.accelerator == "gpu" else "cpu").eval()
    examples = read_jsonl(input_path(work.store, work.node.inputs["data"]) / DATA, Example)
    tokens = [tokenise(tokenizer, example) for example in examples]
    rows: list[ExampleScore] = []
    with progress_bar(work.console) as bar:
        task = bar.add_task(work.node.name, total=len(examples), note="")
        for row in example_scores(model, examples, tokens, work.config.trainer.row_batch):
            rows.append(row)
            bar.update(task, advance=1, note="")
    rows.sort(key=lambda row: row.problem_id)
    write_jsonl(work.build.path / BPC, rows)
    work.build.counts["examples"] = len(rows)
    work.build.metrics |= {
        "bits_per_byte": bits_per(rows, "bytes"),
        "bits_per_character": bits_per(rows, "characters"),
        "num_tokens": sum(row.num_tokens for row in rows) / len(rows),
    }
    work.run.log({"data/bits_per_byte": work.build.metrics["bits_per_byte"]})
