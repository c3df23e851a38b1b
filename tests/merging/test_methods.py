"""Methods on small tensors against an oracle in float64 that follows the papers (arXiv 2311.03099, 2306.01708)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from toy_models import spec

from micota.config import MERGE_METHODS
from micota.merging import slices
from micota.merging.masks import keep_mask, mask_key, uniforms
from micota.merging.methods import TensorMerge
from micota.merging.plan import Share
from micota.merging.selection import Selection


def merged(
    recipe: Any, base: torch.Tensor, tuned: Sequence[torch.Tensor], shares: Sequence[tuple[float, float]]
) -> tuple[torch.Tensor, TensorMerge]:
    """``shares`` are pairs of density and weight."""

    def reader(tensor: torch.Tensor) -> Callable[[int, int], torch.Tensor]:
        return lambda start, stop: tensor.flatten()[start:stop].clone()

    share_list = [Share(weight=w, density=d, key=mask_key(0, i, "t")) for i, (d, w) in enumerate(shares)]
    merge = TensorMerge(recipe, "t", tuple(base.shape), reader(base), [reader(t) for t in tuned], share_list)
    return torch.cat([values for _, values in merge.parts()]).view(base.shape), merge


def random(count: int, *shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def masks(densities: Sequence[float], shape: tuple[int, ...]) -> list[np.ndarray[Any, Any]]:
    size = math.prod(shape)
    return [keep_mask(mask_key(0, i, "t"), 0, size, d).view(shape).double().numpy() for i, d in enumerate(densities)]


def test_dare_by_hand() -> None:
    """Every kept element of the task vector is divided by the density, every other is left out."""
    base, tuned = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 4.0, 7.0, 3.0])
    merged_values, merge = merged(spec("dare_ties"), base, [tuned], [(0.5, 0.25)])
    [mask] = masks([0.5], (4,))
    assert 0 < mask.sum() < 4
    expected = [b + 0.25 * (t - b) / 0.5 if m else b for b, t, m in zip(base, tuned, mask, strict=True)]
    assert merged_values.tolist() == [float(value) for value in expected]
    assert merge.tally.dropped == [4 - mask.sum()]
    assert merge.tally.task_vector_squares[0] == pytest.approx(1 + 4 + 16 + 1)


def test_dare_ties_of_two_models_against_the_oracle() -> None:
    base, one, two = random(3, 40, 25)
    densities, weights = [0.4, 0.7], [0.6, 0.3]
    merged_values, merge = merged(spec("dare_ties"), base, [one, two], list(zip(densities, weights, strict=True)))
    b, vectors = base.double().numpy(), []
    for tuned, mask, density, weight in zip((one, two), masks(densities, (40, 25)), densities, weights, strict=True):
        vectors.append(weight * mask * (tuned.double().numpy() - b) / density)
    elected = np.where(sum(vectors) >= 0, 1, -1)
    agreeing = [np.where(np.sign(vector) == elected, vector, 0) for vector in vectors]
    np.testing.assert_allclose(merged_values.double().numpy(), b + sum(agreeing), rtol=1e-6, atol=1e-6)
    dropped = sum(int(np.sum((vector != 0) & (np.sign(vector) != elected))) for vector in vectors)
    assert merge.tally.conflicting == dropped > 0


def test_ties_keeps_the_largest_and_averages_those_that_agree() -> None:
    base, one, two = random(3, 30, 10)
    merged_values, _ = merged(spec("ties", normalize=True), base, [one, two], [(0.2, 1.0), (0.2, 1.0)])
    b, trimmed = base.double().numpy(), []
    for tuned in (one, two):
        vector = tuned.double().numpy() - b
        trimmed.append(np.where(np.abs(vector) >= np.sort(np.abs(vector).flatten())[-60], vector, 0))
    elected = np.where(sum(trimmed) >= 0, 1, -1)
    agree = [np.sign(vector) == elected for vector in trimmed]
    mean = sum(np.where(a, v, 0) for a, v in zip(agree, trimmed, strict=True)) / np.maximum(1, sum(agree))
    np.testing.assert_allclose(merged_values.double().numpy(), b + mean, rtol=1e-6, atol=1e-6)


def test_rescaling_by_density_keeps_the_expectation_and_by_norm_the_norm() -> None:
    base, tuned = torch.zeros(400, 500), random(1, 400, 500)[0].abs()
    dare, _ = merged(spec("dare_linear"), base, [tuned], [(0.1, 1.0)])
    norm, _ = merged(spec("dare_linear", rescale="norm"), base, [tuned], [(0.1, 1.0)])
    none, _ = merged(spec("dare_linear", rescale="none"), base, [tuned], [(0.1, 1.0)])
    assert dare.mean().item() == pytest.approx(tuned.mean().item(), rel=0.03)
    assert norm.sum().item() == pytest.approx(tuned.sum().item(), rel=1e-5)
    assert torch.equal(none != 0, dare != 0)
    torch.testing.assert_close(none / 0.1, dare)


def test_della_keeps_large_changes_more_often_and_divides_by_each_probability() -> None:
    base, tuned = torch.zeros(2000, 50), random(1, 2000, 50)[0]
    merged_values, _ = merged(spec("della", epsilon=0.3), base, [tuned], [(0.5, 1.0)])
    ranks = tuned.abs().argsort(dim=1).argsort(dim=1)
    kept = [(merged_values[ranks == rank] != 0).double().mean().item() for rank in (0, 25, 49)]
    np.testing.assert_allclose(kept, [0.2, 0.5 + 0.3 / 49, 0.8], atol=5 * math.sqrt(0.25 / 2000))
    factors = (merged_values / tuned)[(merged_values != 0) & (ranks == 49)]
    torch.testing.assert_close(factors, torch.full_like(factors, 1 / 0.8))


def test_a_della_of_epsilon_0_is_dare() -> None:
    base, tuned = random(2, 20, 30)
    della, _ = merged(spec("della"), base, [tuned], [(0.5, 0.7)])
    dare, _ = merged(spec("dare_ties"), base, [tuned], [(0.5, 0.7)])
    torch.testing.assert_close(della, dare)


def test_breadcrumbs_drop_both_ends() -> None:
    base, tuned = torch.zeros(100), torch.arange(1.0, 101.0)
    merged_values, _ = merged(spec("breadcrumbs", gamma=0.1), base, [tuned], [(0.3, 1.0)])
    assert (merged_values != 0).nonzero().flatten().tolist() == list(range(60, 90))


def test_slerp_stays_on_the_sphere_where_a_mean_cuts_through_it() -> None:
    base, tuned = (tensor / tensor.norm() for tensor in random(2, 50, 60))
    arc, _ = merged(spec("slerp"), base, [tuned], [(1.0, 0.5)])
    line, _ = merged(spec("linear"), base, [tuned], [(1.0, 0.5)])
    assert arc.norm().item() == pytest.approx(1.0, rel=1e-5)
    assert line.norm().item() < 0.75


@pytest.mark.parametrize("method", MERGE_METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 9), (300, 7), (4, 3, 2)])
def test_every_shape_goes_in_any_slices(method: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = random(2, *shape)
    whole, _ = merged(spec(method), base, [tuned], [(0.5, 0.5)])
    monkeypatch.setattr(slices, "SLICE", 21)
    cut, _ = merged(spec(method), base, [tuned], [(0.5, 0.5)])
    assert whole.shape == base.shape
    torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("method", [name for name, method in MERGE_METHODS.items() if method.pruning])
def test_full_density_and_weight_give_the_tuned_tensor(method: str) -> None:
    base, tuned = random(2, 30, 40)
    merged_values, _ = merged(replace(spec(method), gamma=0.1), base, [tuned], [(1.0, 1.0)])
    torch.testing.assert_close(merged_values, tuned)


@pytest.mark.parametrize("first", [0, 1, 37, 150, 199, 200])
@pytest.mark.parametrize("last", [1, 40, 151, 200])
def test_selection_is_that_of_a_stable_sort(first: int, last: int) -> None:
    values = torch.randint(-6, 7, (200,), generator=torch.Generator().manual_seed(0)).float() / 3  # many equal ones
    slices = [(start, values[start : start + 17]) for start in range(0, 200, 17)]
    selection = Selection(lambda: slices, first, last)
    merged_values = torch.cat([selection.mask(part, start) for start, part in slices])
    expected = torch.zeros(200)
    expected[values.abs().argsort(stable=True)[first:last]] = 1
    assert torch.equal(merged_values, expected)


def test_uniforms_decide_della_and_masks_alike() -> None:
    key = mask_key(0, 0, "t")
    assert torch.equal((uniforms(key, 0, 100) < 0.3).float(), keep_mask(key, 0, 100, 0.3))
