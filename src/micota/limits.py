"""Limits on the use of an API: requests and tokens a minute, and money."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

RECHECK_S = 1.0  # a wait is looked at again, since replies correct what was taken for them


class Counted(Protocol):
    """The tokens of one completion."""

    @property
    def num_prompt_tokens(self) -> int: ...
    @property
    def num_tokens(self) -> int: ...


class Pace:
    """Lets at most ``per_minute`` units pass a minute, evenly spread; null lets all pass.

    ``now`` and ``sleep`` are the clock, in seconds.
    """

    def __init__(
        self,
        per_minute: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._seconds_each = 60 / per_minute if per_minute else 0.0
        self._now, self._sleep = now, sleep
        self._free_at = now()
        self._turn = asyncio.Lock()

    async def take(self, amount: float) -> None:
        """Wait until ``amount`` more may pass. Callers pass in the order of their calls."""
        if not self._seconds_each:
            return
        async with self._turn:
            while (wait := self._free_at - self._now()) > 0:
                await self._sleep(min(wait, RECHECK_S))
            self._free_at = max(self._free_at, self._now()) + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """Add what a taken amount was too small by; below 0, what it was too large by."""
        self._free_at += amount * self._seconds_each


class Account:
    """The cost of the completions of one artifact.

    Args:
        price_of: the price of tokens of prompts and of completions.
        max_cost: no request is sent that is expected to cost more than what is left of it; null: no limit.
    """

    def __init__(self, price_of: Callable[[float, float], float], max_cost: float | None) -> None:
        self._price_of = price_of
        self.max_cost = max_cost
        self.spent = 0.0
        self._num_paid = 0
        self.begin()

    def begin(self) -> None:
        """Begin a run, with no request open. The lock belongs to the event loop of one run."""
        self._open = 0
        self._changed = asyncio.Condition()

    def start_with(self, rows: Iterable[Counted]) -> None:
        """Begin the account of an artifact, of which ``rows`` are paid."""
        self.spent, self._num_paid = 0.0, 0
        for row in rows:
            self._pay(row.num_prompt_tokens, row.num_tokens)

    async def admit(self, max_tokens: int) -> bool:
        """Whether one more request may be sent; waits while that depends on the cost of open ones.

        A request is expected to cost as much as the mean of those paid, the first as much as ``max_tokens``. With none
        open it is sent as long as anything is left, so that ``max_cost`` is exceeded by at most one completion.
        """
        async with self._changed:
            while self.max_cost is not None:
                if self.spent >= self.max_cost:
                    return False
                expected = self.spent / self._num_paid if self._num_paid else self._price_of(0, max_tokens)
                if not self._open or self.spent + (self._open + 1) * expected <= self.max_cost:
                    break
                await self._changed.wait()
            self._open += 1
        return True

    async def close(self, num_prompt_tokens: int, num_tokens: int) -> None:
        """Pay an admitted request, with 0 tokens where it failed."""
        async with self._changed:
            self._open -= 1
            if num_prompt_tokens or num_tokens:
                self._pay(num_prompt_tokens, num_tokens)
            self._changed.notify_all()

    def _pay(self, num_prompt_tokens: int, num_tokens: int) -> None:
        self.spent += self._price_of(num_prompt_tokens, num_tokens)
        self._num_paid += 1
