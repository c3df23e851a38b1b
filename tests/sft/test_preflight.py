from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from micota.config import SftConfig, ShapeConfig, TrainerConfig
from micota.errors import ConfigError
from micota.graph import TrainSpec
from micota.sft.checks import Run
from micota.sft.preflight import Preflight, find_model
from micota.sft.shape import Shape

SIZES = ShapeConfig(layers=28, hidden=1536, intermediate=8960, heads=12, kv_heads=2, vocab=151936, tied=True)
TRAINER = TrainerConfig(name="gpu", accelerator="gpu", precision="bf16-mixed")


def run_with(capacity: int | None, tmp_path: Path) -> Run:
    spec = TrainSpec(
        sft=SftConfig(learning_rate=1e-5, batch_size=8, epochs=1),
        seed=0,
        precision="bf16-mixed",
        attention="auto",
        loss="auto",
    )
    sizes = Shape.from_config(SIZES)
    return Run((str(tmp_path / "nowhere"), None), spec, TRAINER, 4096, tmp_path / "art", capacity, sizes=sizes)


def test_without_the_files_of_a_model_its_sizes_tell_the_memory(tmp_path: Path) -> None:
    for capacity, status in ((80 * 2**30, "ok"), (None, "unknown"), (8 * 2**30, "refused")):
        report = Preflight()
        find_model(report, run_with(capacity, tmp_path))
        found = {finding.name: finding for finding in report.findings}
        assert found["model"].status == "refused" and "there is no such folder" in found["model"].text
        assert found["memory"].status == status and found["disk"].status in ("ok", "refused")
        assert not report.is_ready
    assert "training needs about" in found["memory"].text and "what would help" in found["memory"].text


def test_a_refusal_is_a_finding_and_a_bug_is_raised() -> None:
    report = Preflight()
    with report.finding("one"):
        raise ConfigError("key=1; accepted: 2")
    assert [(one.name, one.status, one.text) for one in report.findings] == [("one", "refused", "key=1; accepted: 2")]
    try:
        with report.finding("two"):
            raise KeyError("a bug")
    except KeyError:
        return
    raise AssertionError("a bug passed for a finding")


def test_whole_gradients_are_counted_where_they_are_summed_once_a_step(tmp_path: Path) -> None:
    counted = []
    for capacity in (80 * 2**30, None):
        report = Preflight()
        find_model(report, replace(run_with(capacity, tmp_path), trainer=replace(TRAINER, devices=8)))
        [parts] = [finding.values["parts"] for finding in report.findings if "parts" in finding.values]
        counted.append(parts["gradients"])
    assert counted[0] == 4 * Shape.from_config(SIZES).trained and counted[1] == counted[0] // 8
