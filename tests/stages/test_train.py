"""Training as a stage: cut up over processes, killed, stopped, refused, and exported."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fork_server
import pytest
import torch
from conftest import thorough_after
from fork_server import ROOT, Command
from rich.console import Console
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader
from training import Prepared, assert_same, fitted, rows, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota import graph
from micota.artifacts.jsonl import read_jsonl, write_jsonl
from micota.artifacts.manifest import read_manifest, write_manifest
from micota.artifacts.provenance import sha256
from micota.artifacts.store import Store
from micota.config import Config, LoraConfig
from micota.data.sources import model_folder
from micota.errors import ConfigError, UserError
from micota.graph.node import AnyNode
from micota.records import Example
from micota.runtime.execute import perform
from micota.runtime.plan import tasks_of
from micota.sft import device, losses, token_table
from micota.sft.checkpoints import Checkpoints
from micota.sft.packing import tokenise
from micota.stages import train


@pytest.fixture(autouse=True)
def _ranks_are_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_server.start_ranks(monkeypatch)


def start(config: Config, **how: Any) -> Command:
    return Command(str(ROOT / "train.py"), config.overrides, os.environ, **how)


def finish(config: Config) -> subprocess.CompletedProcess[str]:
    return fork_server.run(str(ROOT / "train.py"), config.overrides, os.environ)


def test_two_processes_equal_one(prepared: Prepared, elsewhere: Callable[[Config, str], Config]) -> None:
    # Examples of 35 to 49 tokens are longer than a row, and compute again what others keep: ranks differ in it.
    options = ["student.sft.validation_fraction=0.1", "student.sft.batch_size=3", "trainer.pack_length=34"]
    options += ["trainer.gradient_reduction=step"]  # of up to three micro-batches, some of them empty
    one, two = prepared(*options), elsewhere(prepared(*options, "trainer.devices=2"), "two")
    (alone, first), (sharded, second) = fitted(one), fitted(two)
    assert first.total == second.total == len(first.losses) == 24
    assert second.losses == pytest.approx(first.losses, abs=1e-4)
    norms = [[m["train/grad_norm"] for m in curve.metrics if "train/grad_norm" in m] for curve in (first, second)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert second.metrics[-1]["validation/loss"] == pytest.approx(first.metrics[-1]["validation/loss"], abs=1e-4)
    assert_same(sharded, alone, tolerance=2e-4)
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (alone, sharded)]
    assert manifests[0]["counts"] == manifests[1]["counts"] == {
        "examples": 36, "steps": 24, "dropped_too_long": 0, "validation_examples": 4,
    }  # fmt: skip
    assert manifests[1]["metrics"] == pytest.approx(manifests[0]["metrics"], abs=1e-4)
    assert not list(sharded.glob("rank*")) and not (sharded / "checkpoints").exists()
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert (alone / file).read_text() == (sharded / file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_compiled_layers_equal_others(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], devices: int
) -> None:
    options = ["student.sft.epochs=1"]
    compiled = prepared(*options, f"trainer.devices={devices}", "trainer.compile=true")
    (one, first), (other, second) = fitted(prepared(*options)), fitted(elsewhere(compiled, "compiled"))
    assert second.losses == pytest.approx(first.losses, abs=1e-4)
    assert_same(other, one, tolerance=2e-4)


def until(moment: Callable[[], bool], process: Command) -> None:
    while process.poll() is None and not moment():
        time.sleep(0.001)  # polls for the moment to act at
    assert process.poll() is None, f"it never came: {process.communicate()}"


def steps_in(config: Config) -> list[int]:
    checkpoints = Path(config.artifacts).glob("models/*.partial/checkpoints/step=*.ckpt")
    return sorted(int(path.stem.removeprefix("step=")) for path in checkpoints)


def run_and(config: Config, act: Callable[[Command], None], moments: list[int]) -> None:
    """Start the command, and once the checkpoints have come as far as each of ``moments``, act on it."""
    for moment in moments:
        with start(config) as process:
            until(lambda at=moment: max(steps_in(config), default=0) >= at, process)  # type: ignore[misc]
            act(process)


@pytest.mark.parametrize(("devices", "tolerance", "is_async"), [
    (1, 0.0, False),
    pytest.param(2, 1e-6, False, marks=pytest.mark.slow),
    pytest.param(1, 0.0, True, marks=pytest.mark.slow),
    pytest.param(2, 1e-6, True, marks=pytest.mark.slow),
])  # fmt: skip
def test_killed_it_goes_on_to_the_same_weights(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], devices: int, tolerance: float, is_async: bool
) -> None:
    options = [f"trainer.devices={devices}", f"trainer.async_checkpoints={is_async}"]
    config = prepared("student.sft.epochs=4", *options)
    undisturbed, curve = fitted(elsewhere(config, "undisturbed"))
    first = random.Random(devices).randrange(2, 12)
    run_and(config, lambda process: process.kill(), [first, first + 9])
    assert (finished := finish(config)).returncode == 0, finished
    [model] = Path(config.artifacts).glob("models/*")
    assert_same(model, undisturbed, tolerance)
    resumed = json.loads((model / "manifest.json").read_text())["metrics"]
    assert resumed["loss"] == pytest.approx(curve.losses[-1], abs=1e-6)


def stopped(process: Command) -> None:
    process.terminate()
    process.communicate(timeout=60)


@pytest.mark.thorough
@pytest.mark.parametrize(("devices", "tolerance"), [(1, 0.0), pytest.param(2, 1e-6, marks=pytest.mark.slow)])
def test_checkpoints_of_adapters_hold_them_alone_and_go_on(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], devices: int, tolerance: float
) -> None:
    overrides = [f"trainer.devices={devices}", "student=tiny_lora"]
    config = prepared("student.sft.epochs=4", *overrides)
    undisturbed, curve = fitted(elsewhere(config, "undisturbed"))
    run_and(config, stopped, [3])
    [model] = Path(config.artifacts).glob("models/*.partial")
    latest = model / "checkpoints" / f"step={steps_in(config)[-1]}.ckpt"
    if devices == 1:
        names = [*torch.load(latest)["state_dict"]]
    else:
        names = [
            name.removeprefix("state_dict.") for name in FileSystemReader(latest).read_metadata().state_dict_metadata
        ]
    saved = [name for name in names if name.startswith("objective.")]
    assert saved and all("lora_" in name for name in saved)
    assert (finished := finish(config)).returncode == 0, finished
    [model] = Path(config.artifacts).glob("models/*")
    assert_same(model, undisturbed, tolerance)
    resumed = json.loads((model / "manifest.json").read_text())["metrics"]
    assert resumed["loss"] == pytest.approx(curve.losses[-1], abs=1e-6)


def test_a_run_that_ends_before_its_manifest_goes_on_from_its_checkpoint(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared("student.sft.epochs=1", "trainer.checkpoint_every=4")

    def killed(*_: Any, **__: Any) -> None:
        raise RuntimeError("killed while it hashes")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed while"):
        patch.setattr(Store, "_describe", killed)
        fitted(config)
    model, curve = fitted(config)
    assert curve.total == 10 and len(curve.losses) == 2
    assert not (model / "checkpoints").exists() and not list(model.glob(".*"))


def test_on_sigterm_it_writes_a_checkpoint_first(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config]
) -> None:
    config = prepared("student.sft.epochs=10", "trainer.checkpoint_every=1000", "student.sft.learning_rate=1e-4")
    printed = []

    def terminate(process: Command) -> None:
        process.send_signal(signal.SIGTERM)
        printed.append(process.communicate(timeout=60)[1])
        assert process.returncode == 128 + signal.SIGTERM

    [log] = [Path(config.artifacts) / f"{graph.trained(config, 'student').folder}.partial" / "log.txt"]
    with start(config) as process:
        until(lambda: log.exists() and "step 10 of" in log.read_text(), process)
        terminate(process)
    [step] = steps_in(config)
    assert printed == [f"stopped by SIGTERM after step {step}; the same command goes on from here\n"]
    resumed, curve = fitted(config)
    assert len(curve.losses) == curve.total - step
    undisturbed, whole = fitted(elsewhere(config, "undisturbed"))
    assert whole.losses[step:] == curve.losses
    assert_same(resumed, undisturbed)


@pytest.mark.slow
def test_ranks_of_torchrun_share_one_artifact(prepared: Prepared, elsewhere: Callable[[Config, str], Config]) -> None:
    config = prepared("trainer.devices=2")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(ROOT / "train.py"),
        *config.overrides,
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("made: ") == 1
    [model] = Path(config.artifacts).glob("models/*")
    assert_same(model, fitted(elsewhere(config, "whole"))[0], 1e-6)


def test_not_a_number_stops_it_and_names_the_examples(prepared: Prepared) -> None:
    config = prepared("student.sft.learning_rate=1e30", "student.sft.max_grad_norm=1e30")
    with pytest.raises(ConfigError, match=r"the loss is .* at step \d+; lower the learning rate; .*non_finite.json"):
        fitted(config)
    [partial] = Path(config.artifacts).glob("models/*.partial")
    report = json.loads((partial / "non_finite.json").read_text())
    assert len(report["problem_ids"]) == 4 and set(report["problem_ids"]) <= {row.problem_id for row in rows()}
    assert not list(partial.glob("*.safetensors"))


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_weights_that_are_not_finite_are_named_before_the_first_step(
    prepared: Prepared, tmp_path: Path, devices: int
) -> None:
    """The learning rate is not to blame for them."""
    source = tmp_path / "damaged"
    shutil.copytree(model_folder("bundled:student"), source)
    model: Any = AutoModelForCausalLM.from_pretrained(source)
    model.model.layers[0].mlp.up_proj.weight.data[3, 5] = math.nan
    model.save_pretrained(source)
    expected = r"model.layers.0.mlp.up_proj.weight of \S+/model.safetensors has 1 values that are not finite \(NaN"
    with pytest.raises(UserError, match=expected):
        fitted(prepared(f"student.path={source}", f"trainer.devices={devices}"))


def test_a_bug_within_a_step_keeps_its_traceback(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning catches what is raised in its loop, to clean up, and must hand it on."""

    def planted_bug(*_: Any) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(losses.Objective, "forward", planted_bug)
    config = prepared()
    with pytest.raises(ValueError, match="planted") as caught:
        fitted(config)
    assert "planted_bug" in [entry.name for entry in caught.traceback]
    assert not isinstance(caught.value, UserError)


@pytest.mark.parametrize("kind", [{}, {"rslora": True}, {"dora": True, "targets": [".*mlp.*", "q_proj"]}])
def test_adapters_are_saved_and_merged(prepared: Prepared, kind: dict[str, Any]) -> None:
    import peft

    config = prepared()
    assert config.student.sft is not None
    lora = LoraConfig(r=4, alpha=8, dropout=0.1, **kind)
    config.student.sft = replace(config.student.sft, lora=lora, learning_rate=1e-2)
    folder, curve = fitted(config)
    assert curve.losses[-1] < curve.losses[0]
    base = train.model_location(Store(config.artifacts), graph.trained(config, "student").inputs["model"])[0]
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder / "adapter"))
    merged: Any = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.arange(2, 20)[None]
    torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)
    plain: Any = AutoModelForCausalLM.from_pretrained(base)
    assert (plain(ids).logits - merged(ids).logits).abs().max() > 1e-2


@pytest.mark.parametrize("adapters", thorough_after(1, [[], ["student.sft.lora.r=2"]]), ids=["full", "adapters"])
def test_a_model_is_written_in_the_dtype_of_its_source(prepared: Prepared, tmp_path: Path, adapters: list[str]) -> None:
    """Trained in float32, a bfloat16 model would be written at twice its size."""
    source = tmp_path / "source"
    shutil.copytree(model_folder("bundled:student"), source)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    model.save_pretrained(source)
    folder, _ = fitted(prepared(f"student.path={source}", *adapters))
    assert AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype == torch.bfloat16
    assert (folder / "model.safetensors").stat().st_size == (source / "model.safetensors").stat().st_size
    wide, _ = fitted(prepared(f"student.path={source}", *adapters, "student.sft.export_dtype=float32"))
    for name, values in weights(wide).items():
        assert torch.equal(weights(folder)[name], values.to(torch.bfloat16)), name


def test_an_unknown_layer_for_adapters_is_named(prepared: Prepared) -> None:
    config = prepared()
    assert config.student.sft is not None
    config.student.sft = replace(config.student.sft, lora=LoraConfig(r=4, alpha=8, targets=["q_prj"]))
    with pytest.raises(ConfigError, match=r"'q_prj' is no linear layer; accepted: .*'q_proj'"):
        fitted(config)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("adapters", thorough_after(1, [[], ["student=tiny_lora"]]), ids=["full", "adapters"])
def test_the_best_weights_are_written_and_models_of_steps_beside_them(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], devices: int, adapters: list[str]
) -> None:
    """Validations near the end are better by less than ``min_change``."""
    options = [*adapters, "student.sft.learning_rate=0.1", "student.sft.validation_fraction=0.2"]
    options += ["student.sft.epochs=4", "student.sft.schedule=constant", f"trainer.devices={devices}"]
    plain, curve = fitted(prepared(*options, "trainer.validate_every=4", "trainer.save_model_every=4"))
    losses = {4 * index + 4: m["validation/loss"] for index, m in
              enumerate(m for m in curve.metrics if "validation/loss" in m)}  # fmt: skip
    expected = 4
    for step, loss in losses.items():
        expected = step if losses[expected] - loss > 1.0 else expected
    assert sorted(path.name for path in (plain / "models").iterdir()) == sorted(f"step={step}" for step in losses)
    assert_same(plain / "models" / f"step={max(losses)}", plain)
    best = prepared(*options, "student.sft.best.by=loss", "student.sft.best.every=4", "trainer.save_model_every=4",
                    "student.sft.best.min_change=1",
                    "trainer.keep_models=2")  # fmt: skip
    assert graph.trained(best, "student").key != plain.name.rpartition("-")[2]
    folder, _ = fitted(best)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["best_step"] == expected and manifest["metrics"]["validation_loss"] == losses[expected]
    assert_same(folder, plain / "models" / f"step={expected}")
    assert sorted(path.name for path in (folder / "models").iterdir()) == [f"step={step}" for step in [*losses][-2:]]
    assert not (folder / "best").exists() and expected != max(losses)


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_more_epochs_later_give_the_bits_of_a_run_that_had_them(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], devices: int
) -> None:
    options = ["student.sft.schedule=constant", "student.sft.warmup_ratio=0", "student.sft.warmup_steps=3"]
    options += [f"trainer.devices={devices}"]
    short, _ = fitted(prepared(*options, "student.sft.epochs=1.5", "trainer.keep_checkpoint=true"))
    kept = {path.name.removesuffix(".sums.json") for path in (short / "checkpoints").iterdir()}
    assert kept == {"step=15.ckpt"}
    longer = [*options, "student.sft.epochs=3"]
    undisturbed, whole = fitted(elsewhere(prepared(*longer), "undisturbed"))
    continued, curve = fitted(prepared(*longer, f"trainer.continue_from={short}"))
    assert continued.name == undisturbed.name and curve.losses == pytest.approx(whole.losses[15:], abs=1e-6)
    assert_same(continued, undisturbed, 0.0 if devices == 1 else 1e-6)
    assert not (continued / "checkpoints").exists()


def test_what_no_run_can_continue_is_refused(prepared: Prepared) -> None:
    steady = ["student.sft.schedule=constant", "student.sft.warmup_ratio=0"]
    short, _ = fitted(prepared(*steady, "student.sft.max_steps=2"))
    kept, _ = fitted(prepared("student.sft.max_steps=3", "student.sft.warmup_ratio=0", "trainer.keep_checkpoint=true"))
    for overrides, complaint in [
        ([*steady, f"trainer.continue_from={short}"], "has no checkpoint; accepted: .* trainer.keep_checkpoint=true"),
        ([*steady, "student.sft.weight_decay=0.5", f"trainer.continue_from={short}"],
         r"has sft.weight_decay=.*, and this run 0.5; accepted: runs that differ in sft.epochs or sft.max_steps alone"),
        ([*steady, "student.sft.max_steps=1", f"trainer.continue_from={short}"], "has 2 steps, and this run 1"),
        (["student.sft.warmup_ratio=0", f"trainer.continue_from={kept}"],
         r"had the learning rate 0.00075 at step 1, and a run of 20 steps has .* \(schedule=cosine\); accepted: sft"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=complaint):
            fitted(prepared(*overrides))


def test_rows_of_a_file_are_for_validation_alone(prepared: Prepared, tmp_path: Path) -> None:
    """Their loss is that of transformers under the written weights, and all rows of the recipe are trained on."""
    held = [replace(row, problem_id=f"v{row.problem_id}", completion=f"{row.completion}\n1+1=2.") for row in rows(6)]
    path = tmp_path / "held.jsonl"
    write_jsonl(path, held)
    options = [f"student.sft.validation.path={path}", "student.sft.best.by=loss", "student.sft.best.every=7"]
    config = prepared(*options)
    node, store = graph.trained(config, "student"), Store(config.artifacts)
    perform(config, store, tasks_of([node.inputs["validation"]])[0], Console(quiet=True))
    folder, curve = fitted(config)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"] == {
        "examples": 40, "steps": 20, "dropped_too_long": 0, "validation_examples": 6,
        "best_step": manifest["counts"]["best_step"],
    }  # fmt: skip
    assert sum("validation/loss" in metrics for metrics in curve.metrics) == 3
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    total = count = 0
    for example in held:
        row = tokenise(tokenizer, example)
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[:, : row.num_prompt] = -100
        total += float(model(input_ids=ids, labels=labels).loss.detach()) * row.num_supervised
        count += row.num_supervised
    assert manifest["metrics"]["validation_loss"] == pytest.approx(total / count, rel=1e-4)
    plain = graph.trained(prepared(), "student")
    assert node.key != plain.key and "validation" not in plain.inputs
    write_jsonl(path, held[:5])
    assert graph.trained(prepared(*options), "student").key != node.key, "another content is another artifact"


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_frozen_weights_stay_to_the_bit(prepared: Prepared, devices: int) -> None:
    frozen = r"['model.embed_tokens', 'model\.layers\.[01]\.self_attn\..*']"
    folder, _ = fitted(prepared(f"student.sft.freeze={frozen}", f"trainer.devices={devices}"))
    before = weights(Path(model_folder("bundled:student")))
    changed = {name for name, values in weights(folder).items() if not torch.equal(values, before[name])}
    kept = {name for name in before if re.match(r"model.embed_tokens|model.layers.[01].self_attn|lm_head", name)}
    assert changed == before.keys() - kept and any("layers.0.mlp" in name for name in changed)


@pytest.mark.parametrize(("frozen", "complaint"), [
    ("[model.embed]", r"'model.embed' matches no weight; accepted: modules or weights, as 'model.embed_tokens.weight'"),
    ("['.*']", r"leaves no weight to train"),
])  # fmt: skip
def test_what_freezes_nothing_or_everything_is_refused(prepared: Prepared, frozen: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        fitted(prepared(f"student.sft.freeze={frozen}"))


def test_tokens_are_cached_by_content(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    config = prepared()
    node = graph.trained(config, "student")
    first = train.read_inputs(Store(config.artifacts), node)
    monkeypatch.setattr(token_table, "tokenise", lambda *_: pytest.fail("it was tokenised again"))
    again = train.read_inputs(Store(config.artifacts), node)
    assert list(again.tokens) == list(first.tokens) and len(again.tokens) == 40
    tokenizer: Any = AutoTokenizer.from_pretrained(first.location[0])
    before = token_table.tokenizer_content(tokenizer)
    tokenizer.chat_template += " "
    assert token_table.tokenizer_content(tokenizer) != before


def test_what_the_model_has_no_positions_for_is_dropped_and_counted(
    prepared: Prepared, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "source"
    shutil.copytree(model_folder("bundled:student"), source)
    settings = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 40}))
    config = prepared(f"student.path={source}")
    inputs = train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))
    assert inputs.longest <= 40 and 0 < inputs.num_beyond_context == 40 - len(inputs.chosen)
    assert f"{inputs.num_beyond_context} examples are longer than the model's context of 40 tokens" in caplog.text
    cut = prepared(f"student.path={source}", "student.sft.overlong=cut")
    inputs = train.read_inputs(Store(cut.artifacts), graph.trained(cut, "student"))
    assert inputs.longest == 40 and len(inputs.chosen) == 40 and inputs.num_cut and not inputs.num_beyond_context
    (source / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 8}))
    config = prepared(f"student.path={source}")
    with pytest.raises(ConfigError, match="no example fits the 8 tokens of the model's context"):
        train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))


def test_a_tokenizer_that_loses_texts_is_refused_before_training(prepared: Prepared, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(model_folder("bundled:student"), source)
    content = json.loads((source / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Replace", "pattern": {"String": "9"}, "content": "8"}
    (source / "tokenizer.json").write_text(json.dumps(content))
    config = prepared(f"student.path={source}")
    with pytest.raises(ConfigError, match=rf"tokenizer of {source} .* does not give texts back"):
        train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))


def test_tokens_of_which_none_fit_are_not_cached(prepared: Prepared) -> None:
    config = prepared("student.sft.max_tokens=4")
    cached = set(Path(config.artifacts).rglob("cache/tokens/*"))
    with pytest.raises(ConfigError, match=r"no example fits sft.max_tokens=4: the shortest has \d+ tokens; accepted:"):
        train.read_inputs(Store(config.artifacts), graph.trained(config, "student"))
    assert set(Path(config.artifacts).rglob("cache/tokens/*")) == cached


def change_rows(config: Config, change: Callable[[Example], Example]) -> None:
    """Rewrite the data artifact, as a user with another file would."""
    [path] = Path(config.artifacts).glob("data/*/data.jsonl")
    write_jsonl(path, [change(row) for row in read_jsonl(path, Example)])
    manifest = read_manifest(path.parent)
    files = manifest.files | {"data.jsonl": {"bytes": path.stat().st_size, "sha256": sha256(path)}}
    write_manifest(path.parent, replace(manifest, files=files))


def test_an_example_without_supervised_tokens_is_refused(prepared: Prepared) -> None:
    config = prepared()
    change_rows(config, lambda row: replace(row, completion=" ") if row.problem_id == "p7" else row)
    with pytest.raises(ConfigError, match="problem 'p7' has an empty completion: nothing in it is supervised"):
        fitted(config)


def test_too_little_memory_or_disk_is_an_error_before_the_weights_are_read(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepared()
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: pytest.fail("weights were read"))
    with monkeypatch.context() as patch:
        patch.setattr(device, "device_bytes", lambda _: 2**20)
        with pytest.raises(ConfigError, match=r"training needs about .* GiB on each process .*check_memory=false"):
            fitted(config)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
        with pytest.raises(ConfigError, match=r"checkpoints and export need .* GiB and .* are free"):
            fitted(config)


def test_a_checkpoint_of_another_run_is_refused(prepared: Prepared) -> None:
    config = prepared("student.sft.epochs=40")
    run_and(config, lambda process: process.kill(), [1])
    other = prepared("student.sft.epochs=41")
    folders = [Path(config.artifacts) / f"{graph.trained(c, 'student').folder}.partial" for c in (config, other)]
    folders[1].mkdir()
    (folders[0] / "checkpoints").rename(folders[1] / "checkpoints")
    with pytest.raises(ConfigError, match="holds a checkpoint of another run"):
        fitted(other)


@pytest.mark.parametrize(("before", "after"), [
    (1, 2), pytest.param(2, 1, marks=pytest.mark.slow), pytest.param(2, 3, marks=pytest.mark.slow),
    pytest.param(3, 2, marks=pytest.mark.slow),
])  # fmt: skip
@pytest.mark.parametrize("student", ["tiny", pytest.param("tiny_lora", marks=pytest.mark.slow)])
def test_it_goes_on_with_another_number_of_processes(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], before: int, after: int, student: str
) -> None:
    """Rows are balanced for each number anew, and steps stay the same."""
    options = [f"student={student}", "student.sft.batch_size=6"]
    undisturbed, curve = fitted(elsewhere(prepared(*options), "undisturbed"))
    run_and(prepared(*options, f"trainer.devices={before}"), lambda process: process.kill(), [5])
    resumed, rest = fitted(prepared(*options, f"trainer.devices={after}"))
    assert 0 < len(rest.losses) <= curve.total - 5
    assert rest.losses == pytest.approx(curve.losses[-len(rest.losses) :], abs=1e-4)
    assert_same(resumed, undisturbed, tolerance=2e-4)


@pytest.mark.slow
def test_moments_of_8_bits_over_two_processes_go_on(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config]
) -> None:
    """Each rank has blocks of its shards, so that no other number of processes can read them."""
    kind = "student.sft.optimizer=adamw_8bit"
    config = prepared(kind, "trainer.devices=2")
    (_, first), (undisturbed, curve) = fitted(elsewhere(prepared(kind), "one")), fitted(elsewhere(config, "two"))
    assert curve.losses == pytest.approx(first.losses, rel=0.05) and curve.losses != first.losses
    run_and(config, lambda process: process.kill(), [5])
    files = {path.name for path in Path(config.artifacts).glob("models/*.partial/checkpoints/step=*/__*_states.pt")}
    assert files == {"__0_states.pt", "__1_states.pt"}
    with pytest.raises(UserError, match="has the moments of 2 devices, and this run needs the moments of 3"):
        fitted(prepared(kind, "trainer.devices=3"))
    resumed, rest = fitted(config)
    assert 0 < len(rest.losses) <= curve.total - 5
    assert rest.losses == pytest.approx(curve.losses[-len(rest.losses) :], abs=1e-6)
    assert_same(resumed, undisturbed, tolerance=1e-6)


@pytest.mark.parametrize("sharded", [False, True])
def test_moments_of_8_bits_stay_with_their_number_of_processes(sharded: bool, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step=3.ckpt"
    checkpoint.touch() if sharded else checkpoint.mkdir()
    assert Checkpoints(tmp_path, 1, "key", sharded=sharded).latest() == str(checkpoint)
    with pytest.raises(ConfigError, match=r"moments of 8 bits \(sft.optimizer\) are not converted; set trainer"):
        Checkpoints(tmp_path, 1, "key", sharded=sharded, converts=False).latest()


@pytest.mark.thorough
@pytest.mark.parametrize("dora", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_adapters_over_two_processes_equal_those_of_one(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], dora: bool
) -> None:
    configs = [prepared(), elsewhere(prepared("trainer.devices=2"), "two")]
    for config in configs:
        assert config.student.sft is not None
        config.student.sft = replace(config.student.sft, lora=LoraConfig(r=4, alpha=8, dora=dora), learning_rate=1e-2)
    (alone, first), (sharded, second) = map(fitted, configs)
    assert first.losses[-1] < first.losses[0] and second.losses == pytest.approx(first.losses, abs=1e-4)
    assert_same(sharded, alone, tolerance=2e-4)
    files = [sorted(path.name for path in folder.rglob("*") if path.is_file()) for folder in (alone, sharded)]
    assert files[0] == files[1] and "adapter_model.safetensors" in files[0]
    adapters = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (alone, sharded)]
    assert adapters[0].keys() == adapters[1].keys()
    for name, values in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], values, rtol=0, atol=2e-4)


def test_samples_show_what_is_supervised(prepared: Prepared, tmp_path: Path) -> None:
    config = prepared("show_samples=2")
    finished = finish(config)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("⟦") == 3 and finished.stdout.count("<eos>⟧") == 2
    assert "Ana has 0 pens:+0 mod 10?\n⟦" in finished.stdout
    assert not list(Path(config.artifacts).glob("models/*"))
    elsewhere = replace(config.call, overrides=[*config.overrides, f"artifacts={tmp_path / 'elsewhere'}"])
    again = finish(replace(config, call=elsewhere))
    assert again.returncode == 0, "rows of the user need no model, and so no other command"
    assert again.stdout == finished.stdout


def node_of(config: Config) -> AnyNode:
    return graph.trained(config, "student")


def test_where_it_runs_stays_out_of_the_key(prepared: Prepared) -> None:
    keys = {
        node_of(prepared(*overrides)).key
        for overrides in ([], ["trainer.devices=2"], ["trainer.pack_length=512"], ["trainer.validate_every=3"])
    }
    assert len(keys) == 1
    for changes in ("student.sft.validation_fraction=0.2", "trainer.attention=eager", "trainer.loss=chunked"):
        assert node_of(prepared(changes)).key not in keys


def test_a_full_disk_is_one_error_and_keeps_the_checkpoint_before(prepared: Prepared) -> None:
    """A limit on the size of files stands for the disk: the kernel refuses the write in the same way."""
    config = prepared()
    run_and(config, lambda process: process.kill(), [2])
    before = steps_in(config)
    [kept] = Path(config.artifacts).glob(f"models/*.partial/checkpoints/step={before[-1]}.ckpt")
    limit = kept.stat().st_size // 2
    with start(config, max_file_bytes=limit) as process:
        _, errors = process.communicate()
    assert process.returncode == 2 and "Traceback" not in errors
    assert "cannot be written" in errors and "GiB are free there" in errors
    assert kept.exists() and not list(kept.parent.glob("*.partial"))


def test_evaluation_during_training_changes_nothing(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config]
) -> None:
    """Not even what dropout draws."""
    evaluated, quiet = (
        prepared(*extra, "bench=[tiny_easy]", "trainer.activation_checkpointing=selective")
        for extra in (["trainer.evaluate_every=10", "trainer.evaluate_problems=6"], [])
    )
    quiet = elsewhere(quiet, "quiet")
    for config in (evaluated, quiet):
        assert config.student.sft is not None
        config.student.sft = replace(config.student.sft, lora=LoraConfig(r=4, alpha=8, dropout=0.2), learning_rate=3e-2)
    (first, curve), (second, plain) = fitted(evaluated), fitted(quiet)
    assert_same(first, second)
    assert curve.losses == plain.losses
    evaluations = [metrics for metrics in curve.metrics if "eval/easy/accuracy" in metrics]
    assert len(evaluations) == curve.total // 10 == 2
    for metrics in evaluations:
        assert 0 <= metrics["eval/easy/accuracy"] <= 1 and metrics["eval/easy/num_tokens"] > 0
    lengths = {metrics["eval/easy/num_tokens"] for metrics in evaluations}
    assert len(lengths) > 1, "an evaluation must use the weights of its step"
