"""Places are handed round among tenants, and none is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from clawmail.store.turns import Turns


async def test_places_are_free_until_they_are_taken() -> None:
    turns = Turns(2)
    await turns.enter("a")
    await turns.enter("a")
    third = asyncio.create_task(turns.enter("a"))
    await asyncio.sleep(0)
    assert not third.done()
    turns.leave()
    await third


async def test_a_single_question_waits_behind_one_of_each_other_tenant() -> None:
    turns, order = Turns(1), []
    await turns.enter("first")

    async def ask(tenant: str) -> None:
        await turns.enter(tenant)
        order.append(tenant)
        turns.leave()

    asked = [asyncio.create_task(ask(tenant)) for tenant in ["flood"] * 5 + ["other"] * 3 + ["quiet"]]
    await asyncio.sleep(0)
    turns.leave()
    await asyncio.gather(*asked)
    assert order == ["flood", "other", "quiet", "flood", "other", "flood", "other", "flood", "flood"]


async def test_a_place_given_up_as_it_came_goes_on() -> None:
    turns = Turns(1)
    await turns.enter("a")
    leaving, next_one = asyncio.create_task(turns.enter("b")), asyncio.create_task(turns.enter("c"))
    await asyncio.sleep(0)
    turns.leave()  # b has it, and has not run yet
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await next_one


async def test_whoever_stops_waiting_is_passed_over() -> None:
    turns = Turns(1)
    await turns.enter("a")
    gone, patient = asyncio.create_task(turns.enter("b")), asyncio.create_task(turns.enter("b"))
    await asyncio.sleep(0)
    gone.cancel()
    turns.leave()  # before the cancelled task has run
    await patient
    assert gone.cancelled() or gone.cancelling()
    with contextlib.suppress(asyncio.CancelledError):
        await gone
    turns.leave()
    await turns.enter("c")


@pytest.mark.parametrize("seed", range(20))
async def test_no_place_is_lost_or_made(seed: int) -> None:
    """Whatever is cancelled when: never more than the places at once, and all of them are there in the end."""
    dice, places = random.Random(seed), 3
    turns, inside = Turns(places), 0

    async def work(tenant: int) -> None:
        nonlocal inside
        await turns.enter(tenant)
        inside += 1
        assert inside <= places
        try:
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
        finally:
            inside -= 1
            turns.leave()

    tasks = [asyncio.create_task(work(dice.randrange(4))) for _ in range(100)]
    for _ in range(60):
        for task in dice.sample(tasks, 3):
            if dice.random() < 0.3:
                task.cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if isinstance(result, AssertionError)]
    async with asyncio.timeout(5):
        for _ in range(places):
            await turns.enter("last")
