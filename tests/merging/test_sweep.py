"""Sweeps give to the bit what single merges give, and make their masks once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import family, spec

from micota.errors import ConfigError, MachineError
from micota.graph import MergeSpec
from micota.merging import masks, selection
from micota.merging.models import Model, open_models, tensor_names
from micota.merging.stream import ModelMerge
from micota.merging.sweep import Sweep

DENSITIES = [0.7, 0.2, 1.0, 0.5]
POINTS = [(density, weight, seed) for seed in (0, 1) for density in DENSITIES for weight in (0.3, 1.0)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Model]]:
    folder = tmp_path_factory.mktemp("models")
    paths = family(folder, "qwen2", tied=True)
    with open_models([(str(path), None) for path in paths], folder / "scratch") as opened:
        yield opened


@contextmanager
def sweep_of(recipe: MergeSpec, models: list[Model], folder: Path) -> Iterator[Sweep]:
    checkpoints = [model.checkpoint for model in models]
    sweep = Sweep(recipe, checkpoints[0], checkpoints[1:], tensor_names(models), DENSITIES, folder)
    yield sweep
    for seed in (0, 1):
        sweep.forget(seed)
    assert not list(folder.iterdir()), "files of masks were left"


def alone(recipe: MergeSpec, models: list[Model]) -> dict[str, torch.Tensor]:
    checkpoints = [model.checkpoint for model in models]
    return dict(ModelMerge(recipe, checkpoints[0], checkpoints[1:], tensor_names(models)).tensors())


@pytest.mark.parametrize(("method", "rescale"), [
    ("dare_ties", "dare"), ("dare_linear", "norm"), ("ties", "none"), ("breadcrumbs", "norm"), ("della", "dare"),
    ("task_arithmetic", "none"), ("slerp", "none"),
])  # fmt: skip
def test_every_point_is_what_a_merge_by_itself_gives(
    models: list[Model], tmp_path: Path, method: str, rescale: str
) -> None:
    recipe = spec(method, rescale=rescale, gamma=0.05, dtype="bfloat16")
    with sweep_of(recipe, models[:2], tmp_path) as sweep:
        for density, weight, seed in POINTS:
            expected = alone(replace(recipe, density=density, weight=weight, seed=seed), models[:2])
            for name, values in sweep.merge(density, weight, seed).tensors():
                assert torch.equal(values, expected[name]), (density, weight, seed, name)


@pytest.mark.parametrize("method", ["dare_ties", "ties"])
def test_with_another_model_merged_in_and_in_threads(models: list[Model], tmp_path: Path, method: str) -> None:
    gradient = [0.3, 0.8]  # over the layers
    recipe = spec(method, instruct_density=gradient, instruct_weight=0.4)
    torch.set_num_threads(4)
    with sweep_of(recipe, models, tmp_path) as sweep:
        for density, weight, seed in POINTS[:6]:
            swept = dict(sweep.merge(density, weight, seed).tensors())
            expected = alone(replace(recipe, density=density, weight=weight, seed=seed), models)
            assert all(torch.equal(swept[name], expected[name]) for name in expected)


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """How often a function is called."""
    calls: list[int] = []
    function: Callable[..., Any] = getattr(module, name)

    def counting(*arguments: Any) -> Any:
        calls.append(1)
        return function(*arguments)

    monkeypatch.setattr(module, name, counting)
    return calls


@pytest.mark.parametrize(("method", "module", "work"), [("dare_ties", masks, "_numbers"), ("ties", selection, "_rank")])
def test_masks_are_made_once_for_all_points_of_a_seed(
    models: list[Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, module: Any, work: str
) -> None:
    calls = counted(monkeypatch, module, work)
    with sweep_of(spec(method), models[:2], tmp_path) as sweep:
        dict(sweep.merge(0.5, 0.5, 0).tensors())
        once = len(calls)
        assert once > 0
        for density, weight, _ in POINTS:
            dict(sweep.merge(density, weight, 0).tensors())
        assert len(calls) == once


def test_too_small_a_disk_is_refused_before_a_mask_is_written(
    models: list[Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with (
        sweep_of(spec(), models[:2], tmp_path) as sweep,
        pytest.raises(MachineError, match="the masks of a sweep need"),
    ):
        sweep.merge(0.5, 0.5, 0)


def test_more_densities_than_a_byte_can_count_are_refused(models: list[Model], tmp_path: Path) -> None:
    many = [index / 1000 for index in range(1, 300)]
    with pytest.raises(ConfigError, match=r"merge_sweep.densities has 299 values; accepted: at most 255"):
        Sweep(spec(), models[0].checkpoint, [models[1].checkpoint], tensor_names(models), many, tmp_path)
