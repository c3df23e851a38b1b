"""The packed rows of an optimiser step, divided among ranks so that no rank waits long for another.

Ranks work in rounds: one micro-batch each, and all wait for the largest, since layers in shards need all ranks. A step
takes the sum over rounds of the largest micro-batch. Rows of equal size are best, and how much a row may contain
differs by round: the long examples share one round, and short ones balance the other.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from micota.sft.packing import pack

Rows = list[list[int]]  # of each row the indices of its sequences
Round = list[Rows]  # of each rank the rows of its micro-batch; none where nothing is left for it
TRIED = 12  # capacities of rows; twice as many gain less than 0.5 % (benchmarks/packing.py)


def balance(lengths: Sequence[int], capacity: int, micro_batch_rows: int = 1, num_ranks: int = 1) -> list[Round]:
    """Divide the sequences of one optimiser step into rounds, ranks and packed rows.

    The number of rounds is the smallest that best-fit decreasing needs. Among the divisions that are tried, the one
    that computes the fewest tokens wins, padding and waiting counted in; that of best-fit decreasing is one of them.

    Args:
        lengths: tokens of each sequence.
        capacity: tokens of a row; a longer sequence takes a row of its length.
        micro_batch_rows: the most rows of one rank in a round.

    Returns:
        Rounds, largest first: of each rank its rows, the longest rank first. The same input gives the same result.
    """
    slots = num_ranks * micro_batch_rows
    packed = _longest_first(pack(lengths, capacity), lengths)
    best = [_shared(packed[start : start + slots], num_ranks) for start in range(0, len(packed), slots)]
    if slots > 1:
        # The first of equals, which is best-fit decreasing where nothing is gained.
        options = _options(lengths, capacity, micro_batch_rows, num_ranks, len(best))
        best = min([best, *options], key=lambda rounds: computed_tokens(rounds, lengths))
    # The largest first: the memory that it frees fits the others.
    return sorted(best, key=lambda ranks: -_largest(ranks, lengths))


def computed_tokens(rounds: Sequence[Round], lengths: Sequence[int]) -> int:
    """Tokens that a rank computes or waits for in a step: the sum over rounds of the largest micro-batch, in tokens
    with padding."""
    return sum(_largest(ranks, lengths) for ranks in rounds)


def _largest(ranks: Round, lengths: Sequence[int]) -> int:
    return max(len(rows) * max((_load(row, lengths) for row in rows), default=0) for rows in ranks)


def _load(row: Sequence[int], lengths: Sequence[int]) -> int:
    return sum(lengths[index] for index in row)


def _longest_first(rows: Rows, lengths: Sequence[int]) -> Rows:
    return sorted((row for row in rows if row), key=lambda row: -_load(row, lengths))


def _shared(rows: Rows, num_ranks: int) -> Round:
    """Rows, longest first, as micro-batches of as few rows as possible: neighbours, for least padding."""
    each = -(-len(rows) // num_ranks)
    return [rows[rank * each : (rank + 1) * each] for rank in range(num_ranks)]


def _options(
    lengths: Sequence[int], capacity: int, micro_batch_rows: int, num_ranks: int, num_rounds: int
) -> Iterator[list[Round]]:
    """Divisions into at most ``num_rounds`` rounds: some rounds of rows filled up to a capacity that is tried, and the
    rest spread evenly over one more."""
    slots = num_ranks * micro_batch_rows
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    least = max(max(lengths), -(-sum(lengths) // (num_rounds * slots)))
    most = max(capacity, least)
    for number in range(TRIED):
        tried = least + (most - least) * number // (TRIED - 1)
        rounds: list[Round] = []
        rest = order
        while rest:
            last = _spread(rest, lengths, most, micro_batch_rows, num_ranks)
            if last is not None:
                yield [*rounds, last]
            if len(rounds) + 1 == num_rounds:
                break
            rows, rest = _fill(rest, lengths, tried, slots)
            rounds.append(_shared(_longest_first(rows, lengths), num_ranks))


def _fill(order: Sequence[int], lengths: Sequence[int], capacity: int, num_rows: int) -> tuple[Rows, list[int]]:
    """Best-fit decreasing into a fixed number of rows, and the sequences that are left."""
    rows: Rows = [[] for _ in range(num_rows)]
    free = [capacity] * num_rows
    rest = []
    for index in order:
        fitting = [row for row in range(num_rows) if free[row] >= lengths[index]]
        if not fitting:
            rest.append(index)
            continue
        fullest = min(fitting, key=lambda row: free[row])
        rows[fullest].append(index)
        free[fullest] -= lengths[index]
    return rows, rest


def _spread(
    order: Sequence[int], lengths: Sequence[int], capacity: int, micro_batch_rows: int, num_ranks: int
) -> Round | None:
    """One round of all sequences: each goes to the emptiest row, longest first (Graham 1969, longest processing time).
    None where they do not fit."""
    total = sum(lengths[index] for index in order)
    # More rows than needed only add padding.
    for each in range(max(1, -(-total // (capacity * num_ranks))), micro_batch_rows + 1):
        rows: Rows = [[] for _ in range(num_ranks * each)]
        loads = [(0, row) for row in range(len(rows))]
        for index in order:
            load, row = loads[0]
            heapq.heapreplace(loads, (load + lengths[index], row))
            rows[row].append(index)
        if max(loads)[0] <= capacity:
            return _shared(_longest_first(rows, lengths), num_ranks)
    return None
