"""How a merge method is added: one entry in the table, and where it prunes in a new way, one function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import ASK, family, tensors

from micota.config import MERGE_METHODS, PRUNINGS, MergeMethod, PruningKind
from micota.graph import MergeSpec
from micota.graph.nodes import merged
from micota.merging.merge import merge_models
from micota.merging.pruning import Mask, TaskVector, alike


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return family(tmp_path_factory.mktemp("pair"), "qwen2", tied=True, count=2)


def merge(pair: list[Path], folder: Path, spec: MergeSpec) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    base, tuned = ((str(path), None) for path in pair)
    figures = merge_models(spec, base, [tuned], folder, ASK)
    return tensors(folder), figures


@pytest.mark.usefixtures("open_tables")
def test_a_method_is_one_entry(composed: Callable[..., Any], pair: list[Path], tmp_path: Path) -> None:
    MERGE_METHODS.add(
        MergeMethod(
            name="keep_largest",
            summary="the largest changes kept, without the election of signs",
            pruning="magnitude",
            settings={"density": 0.25, "weight": 1.0},
        )
    )
    config = composed("merge", "merge=keep_largest", "merge.dtype=float32")
    node = merged(config)
    assert node.name.endswith(".keep_largest-d0.25-w1")
    merged_tensors, figures = merge(pair, tmp_path, node.spec)
    before, after = map(tensors, pair)
    for name, values in merged_tensors.items():
        change = (after[name] - before[name]).abs()
        kept = values != before[name]
        assert int(kept.sum()) <= max(1, change.numel() // 4)
        assert change[kept].min() >= change[~kept].max() - 1e-7
    assert figures["dropped_share"] == pytest.approx(0.75, abs=0.01)


def every_second(spec: MergeSpec, vector: TaskVector) -> Mask:
    """Elements at even indices."""
    return alike(lambda values, start, stop: (torch.arange(start, stop) % 2 == 0).to(values))


@pytest.mark.usefixtures("open_tables")
def test_a_new_way_to_prune_is_one_entry_more(composed: Callable[..., Any], pair: list[Path], tmp_path: Path) -> None:
    PRUNINGS.add(PruningKind(name="every_second", mask=f"{__name__}:every_second"))
    MERGE_METHODS.add(
        MergeMethod(name="stripes", summary="every second change", pruning="every_second", settings={"weight": 1.0})
    )
    config = composed("merge", "merge=stripes", "merge.density=0.5", "merge.dtype=float32")
    merged_tensors, _ = merge(pair, tmp_path, merged(config).spec)
    before, after = map(tensors, pair)
    for name, values in merged_tensors.items():
        flat = [tensor.flatten() for tensor in (values, before[name], after[name])]
        torch.testing.assert_close(flat[0][::2], flat[2][::2])
        assert torch.equal(flat[0][1::2], flat[1][1::2])
