"""What merges cost that the student measures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from micota import graph
from micota.artifacts.store import Store
from micota.costs.context import Context, Estimate
from micota.costs.machine import machine_of
from micota.costs.measured import work_of
from micota.costs.sweeps import merge_sweep

Composed = Callable[..., Any]
SETTING = ["hardware=h100x8", "student=qwen1.5b", "merge_sweep.weights=[0.3,0.5,0.7]", "merge_sweep.num_steps=2"]


def priced(composed: Composed, *overrides: str) -> Estimate:
    config = composed("merge", *SETTING, *overrides)
    context = Context(machine_of(config), Store("/nonexistent"), config, {})
    return merge_sweep(context, graph.merge_sweep(config))


def test_each_merge_that_is_measured_costs_what_the_student_does(composed: Composed) -> None:
    plain, length = priced(composed), priced(composed, "merge.target_length_ratio=0.5")
    assert plain.trained == 0 and plain.generated / 5 == length.generated / 7, "with the TA before and after SFT"
    bpc = priced(composed, "merge.target=student_bpc")
    assert bpc.seconds > length.seconds and bpc.generated == length.generated and bpc.flops > length.flops
    gain = priced(composed, "merge.target=student_gain", "merge_sweep.student_steps=10")
    config = composed("merge", *SETTING, "merge.target=student_gain")
    batch = graph.merge_sweep(config).spec.student.train.sft.batch_size
    assert gain.trained == 5 * 10 * batch * (config.cost.middle_tokens + config.cost.prompt_tokens)
    assert gain.generated > length.generated and gain.seconds > bpc.seconds
    assert gain.disk - length.disk > 5 * 2 * 1.5e9, "five tuned students of 1.5B weights in bfloat16"
    points = priced(composed, "merge.target=accuracy", "merge.search=cma_es", "merge_sweep.num_points=40")
    assert points.generated / 42 == plain.generated / 5


def test_the_seconds_of_a_student_are_no_speed_of_merges() -> None:
    manifest: dict[str, Any] = {
        "stage": "merge_sweep", "counts": {"points_measured": 3, "problems": 10}, "metrics": {}, "config": {}
    }  # fmt: skip
    assert work_of(manifest, 0, 0) == 30
    assert work_of(manifest | {"config": {"student": {"data": {}}}}, 0, 0) == 0
