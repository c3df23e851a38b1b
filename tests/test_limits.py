from __future__ import annotations

import asyncio

from micota.limits import Account, Pace


def test_a_pace_is_even_and_corrected() -> None:
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    async def run() -> list[float]:
        times = []
        pace = Pace(60, lambda: now[0], sleep)
        for amount in (1, 5, 1, 1):
            await pace.take(amount)
            times.append(now[0])
            if amount == 5:
                pace.correct(-3)
        return times

    assert asyncio.run(run()) == [0, 1, 3, 4]
    assert max(slept) <= 1


def test_an_account_waits_for_open_requests() -> None:
    async def run() -> list[bool]:
        account = Account(lambda prompt, completion: completion, 10)
        first = await account.admit(8)
        second = asyncio.create_task(account.admit(8))  # not sure to fit beside the first
        await asyncio.sleep(0)
        assert not second.done()
        await account.close(0, 3)
        admitted = [first, await second]
        await account.close(0, 7)
        return [*admitted, await account.admit(8)]

    assert asyncio.run(run()) == [True, True, False]
