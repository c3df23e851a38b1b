"""Random numbers for masks by a counter: each depends only on the seed, the name of the tensor and the element's index.

So masks are the same in any order, for any number of threads, any cut into slices or shards, and on any device. The
generator is Philox4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): numpy's on CPU, the same
integer arithmetic in torch elsewhere.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

Key = tuple[int, int]  # two words of 64 bits
PER_BLOCK = 8  # numbers of 32 bits in a block of four words of 64
ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF


def mask_key(seed: int, model: int, tensor: str) -> Key:
    """The generator's key for one tensor of the ``model``-th fine-tuned model of a merge."""
    digest = hashlib.sha256(f"{seed}/{model}/{tensor}".encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def keep_mask(key: Key, start: int, stop: int, density: float, device: torch.device | str = "cpu") -> torch.Tensor:
    """The mask of elements ``start`` to ``stop`` of the flattened tensor: each is kept with probability ``density``.

    Returns:
        float32, 1 where kept and 0 where dropped. Probabilities are exact to 2**-32.
    """
    # u < density for u = n / 2**32 is n < density 2**32: compared as integers, the same on every device.
    threshold = _threshold(density)
    if torch.device(device).type == "cpu":
        kept = _numbers(key, start, stop) < threshold
        return torch.from_numpy(kept.view(np.uint8)).to(torch.float32)  # ten times as fast as from booleans
    return (numbers_on(key, start, stop, device) < threshold).to(torch.float32)


def drop_counts(key: Key, start: int, stop: int, densities: Sequence[float]) -> torch.Tensor:
    """The number of ``densities`` (at most 255) that drop each element, in uint8.

    A lower density keeps a subset of the elements that a higher one keeps, so this number gives the masks of all.
    """
    numbers = _numbers(key, start, stop)
    counts = np.zeros(stop - start, dtype=np.uint8)
    for density in densities:
        counts += (numbers >= _threshold(density)).view(np.uint8)
    return torch.from_numpy(counts)


def uniforms(key: Key, start: int, stop: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """One float64 number in [0, 1) for each element from ``start`` to ``stop``; it is below ``density`` where
    ``keep_mask`` keeps the element."""
    if torch.device(device).type == "cpu":
        return torch.from_numpy(_numbers(key, start, stop) * 2.0**-32)
    return numbers_on(key, start, stop, device).double() * 2.0**-32


def _threshold(density: float) -> int:
    """The least number of 32 bits that is dropped."""
    return math.ceil(density * 2**32)


def _numbers(key: Key, start: int, stop: int) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    """One number of 32 bits for each element, by numpy's generator."""
    first, last = start // PER_BLOCK, -(-stop // PER_BLOCK)
    # numpy steps the counter before it makes a block: block b has the counter b + 1, here and below.
    generator = np.random.Philox(key=key[0] | key[1] << 64, counter=first)
    words = generator.random_raw((last - first) * PER_BLOCK // 2).astype("<u8", copy=False)
    return words.view("<u4")[start - first * PER_BLOCK : stop - first * PER_BLOCK]


def numbers_on(key: Key, start: int, stop: int, device: torch.device | str) -> torch.Tensor:
    """The same numbers as int64, by torch's integer arithmetic on any device."""
    first, last = start // PER_BLOCK, -(-stop // PER_BLOCK)
    counter = torch.arange(first + 1, last + 1, dtype=torch.int64, device=device)
    zero = torch.zeros_like(counter)
    words = torch.stack(philox((counter, zero, zero, zero), key), dim=1).flatten()
    numbers = torch.stack([words & _LOW, words >> 32 & _LOW], dim=1).flatten()
    return numbers[start - first * PER_BLOCK : stop - first * PER_BLOCK]


def philox(
    counter: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], key: Key
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Philox4x64-10 of int64 tensors, whose bits represent unsigned words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ _signed(k0), low1, high0 ^ c3 ^ _signed(k1), low0
        # The key schedule: a Weyl sequence, steps of the golden ratio and of sqrt(3) - 1 in 64 bits.
        k0, k1 = (k0 + _WEYL[0]) % 2**64, (k1 + _WEYL[1]) % 2**64
    return c0, c1, c2, c3


def _multiply(word: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low words of the product of 128 bits, by long multiplication in halves of 32 bits."""
    w0, w1 = word & _LOW, word >> 32 & _LOW  # the shift is arithmetic: the mask removes copies of the sign
    f0, f1 = factor & _LOW, factor >> 32
    p00, p01, p10 = w0 * f0, w0 * f1, w1 * f0  # bits of unsigned products: int64 wraps to the same
    middle = (p00 >> 32 & _LOW) + (p01 & _LOW) + (p10 & _LOW)
    high = w1 * f1 + (p01 >> 32 & _LOW) + (p10 >> 32 & _LOW) + (middle >> 32)
    return high, word * _signed(factor)


def _signed(word: int) -> int:
    """An unsigned word as the int64 of the same bits."""
    return word - 2**64 if word >= 2**63 else word
