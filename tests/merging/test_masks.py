from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from micota.merging.masks import _signed, keep_mask, mask_key, numbers_on, philox, uniforms

# Known answers of philox4x64 with 10 rounds, from kat_vectors of the generators' library Random123.
KNOWN = [
    ((0, 0, 0, 0), (0, 0),
     (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B)),
    ((2**64 - 1,) * 4, (2**64 - 1,) * 2,
     (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0)),
    ((0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
     (0x452821E638D01377, 0xBE5466CF34E90C6C),
     (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6)),
]  # fmt: skip


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    words = philox(tuple(torch.tensor([_signed(word)]) for word in counter), key)  # type: ignore[arg-type]
    assert tuple(int(word) % 2**64 for word in words) == answer
    before = sum(word << 64 * index for index, word in enumerate(counter)) - 1
    expected = np.random.Philox(counter=before % 2**256, key=key[0] | key[1] << 64).random_raw(4)
    assert tuple(expected.tolist()) == answer


def test_numpy_and_torch_agree() -> None:
    key = mask_key(7, 0, "model.layers.3.mlp.up_proj.weight")
    for start, stop in ((0, 10_000), (12_345, 20_001), (2**40 + 3, 2**40 + 777)):
        numbers = numbers_on(key, start, stop, "cpu")
        assert torch.equal(numbers.double() * 2.0**-32, uniforms(key, start, stop))


@pytest.mark.gpu
def test_masks_on_a_gpu_are_those_on_the_cpu() -> None:
    key = mask_key(7, 0, "model.embed_tokens.weight")
    for start, stop in ((0, 1_000_000), (2**33 + 5, 2**33 + 1_000_001)):
        assert torch.equal(keep_mask(key, start, stop, 0.3, "cuda").cpu(), keep_mask(key, start, stop, 0.3))
        assert torch.equal(uniforms(key, start, stop, "cuda").cpu(), uniforms(key, start, stop))


def test_a_mask_does_not_depend_on_how_it_is_cut() -> None:
    key = mask_key(0, 0, "a")
    whole = keep_mask(key, 0, 5000, 0.4)
    for cuts in ([0, 5000], [0, 1, 8, 9, 4999, 5000], list(range(0, 5001, 125))):
        parts = [keep_mask(key, a, b, 0.4) for a, b in itertools.pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole)


def test_seed_model_and_tensor_each_give_another_mask() -> None:
    keys = [mask_key(0, 0, "a"), mask_key(1, 0, "a"), mask_key(0, 1, "a"), mask_key(0, 0, "b")]
    masks = torch.stack([keep_mask(key, 0, 100_000, 0.5) for key in keys])
    correlations = torch.corrcoef(masks) - torch.eye(len(keys))
    assert correlations.abs().max() < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("density", [0.001, 0.1, 0.5, 0.9])
def test_each_element_is_kept_with_the_given_probability(density: float) -> None:
    count = 2_000_000
    mask = keep_mask(mask_key(3, 0, "a"), 0, count, density)
    assert abs(mask.mean().item() - density) < 5 * math.sqrt(density * (1 - density) / count)
    # Neighbours, elements of one block and elements a row apart are independent.
    for lag in (1, 2, 4, 8, 1536):
        pairs = (mask[lag:] * mask[:-lag]).mean().item()
        assert abs(pairs - density**2) < 5 * math.sqrt(density**2 / count)


def test_a_lower_density_keeps_a_subset() -> None:
    key = mask_key(0, 0, "a")
    assert (keep_mask(key, 0, 10_000, 0.3) <= keep_mask(key, 0, 10_000, 0.7)).all()


def test_full_density_keeps_everything_and_uniforms_fit_the_mask() -> None:
    key = mask_key(0, 0, "a")
    assert keep_mask(key, 0, 10_000, 1.0).all()
    assert torch.equal((uniforms(key, 3, 9999) < 0.25).float(), keep_mask(key, 3, 9999, 0.25))


def test_uniforms_are_uniform() -> None:
    counts = torch.histc(uniforms(mask_key(5, 0, "b"), 0, 1_000_000), bins=1000, min=0, max=1)
    chi_square = ((counts - 1000) ** 2 / 1000).sum().item()
    assert abs(chi_square - 999) < 5 * math.sqrt(2 * 999)
