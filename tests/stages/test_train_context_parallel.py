"""Training with rows that two processes divide, as users run it."""

from __future__ import annotations

import json
from collections.abc import Callable

import fork_server
import pytest
from training import Prepared, assert_same, fitted

from micota import graph
from micota.config import Config


@pytest.mark.slow
@pytest.mark.parametrize("student", ["tiny", "tiny_lora"])
def test_two_processes_that_divide_rows_equal_one(
    prepared: Prepared, elsewhere: Callable[[Config, str], Config], monkeypatch: pytest.MonkeyPatch, student: str
) -> None:
    """Slow, since it starts two processes; some of its micro-batches have no label on one of them, and one is empty."""
    fork_server.start_ranks(monkeypatch)
    options = [f"student={student}", "student.sft.epochs=1", "student.sft.learning_rate=1e-3", "data=strong"]
    options += ["student.sft.validation_fraction=0.1", "trainer.pack_length=131", "student.sft.batch_size=5"]
    one = prepared(*options)
    two = elsewhere(prepared(*options, "trainer.devices=2", "trainer.context_parallel=2"), "two")
    assert graph.trained(one, "student").key == graph.trained(two, "student").key
    (alone, first), (divided, second) = fitted(one), fitted(two)
    assert first.total == second.total == len(first.losses) == len(second.losses)
    assert second.losses == pytest.approx(first.losses, abs=1e-4)
    norms = [[m["train/grad_norm"] for m in curve.metrics if "train/grad_norm" in m] for curve in (first, second)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)
    assert_same(divided, alone, tolerance=2e-4)
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in (alone, divided)]
    assert manifests[0]["counts"] == manifests[1]["counts"] and manifests[0]["counts"]["validation_examples"] == 4
    assert manifests[1]["metrics"] == pytest.approx(manifests[0]["metrics"], abs=1e-4)
