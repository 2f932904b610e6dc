"""Token buckets that several processes draw from by way of PostgreSQL."""

from __future__ import annotations

import asyncio

import pytest

from clawmail.core import rates as rates_module
from clawmail.core.rates import AT_ONCE, Rates
from clawmail.store.db import Database

LOW, HIGH = 5, 100


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def passes(seconds: float, db: Database, clock: Clock) -> None:
    """As much time for the database's windows as for the buckets."""
    clock.now += seconds
    async with db.connection() as conn:
        await conn.execute("UPDATE rate_counts SET ends_at = ends_at - make_interval(secs => $1)", seconds)


async def taken(rates: Rates, size: int, times: int, key: str = "a") -> int:
    """How many of so many were let through."""
    return sum([await rates.take(key, size, 1) for _ in range(times)])


async def test_a_low_rate_is_one_rate_and_flows_back(db: Database, clock: Clock) -> None:
    one, two = Rates(db, clock=clock), Rates(db, clock=clock)
    assert [await each.take("a", LOW, 1) for _ in range(4) for each in (one, two)] == [True] * 5 + [False] * 3
    assert await taken(two, LOW, 1, "b") == 1
    await passes(24.0, db, clock)  # two of five in a minute
    assert [await each.take("a", LOW, 1) for _ in range(2) for each in (one, two)] == [True, True, False, False]


async def test_a_high_rate_is_exceeded_by_a_tenth_at_most(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "EXCHANGE_SECONDS", 3600.0)
    one, two = Rates(db, clock=clock), Rates(db, clock=clock)
    let = sum([await each.take("a", HIGH, 1) for _ in range(150) for each in (one, two)])
    assert HIGH <= let <= HIGH + AT_ONCE * HIGH
    await one.close()
    await two.close()


async def test_of_little_nobody_is_told_and_of_more_within_a_second(
    db: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "EXCHANGE_SECONDS", 0.01)
    one = Rates(db, clock=clock)
    assert await taken(one, HIGH, 1, "little") == 1
    assert await taken(one, HIGH, 9, "more") == 9
    async with asyncio.timeout(20), db.connection() as conn:
        while not (told := await conn.fetch("SELECT key, count FROM rate_counts")):
            await asyncio.sleep(0.02)
    assert [tuple(row) for row in told] == [("more", 9)]
    await one.close()


async def test_what_overdraws_here_is_owed_elsewhere(db: Database, clock: Clock) -> None:
    one, two = Rates(db, clock=clock), Rates(db, clock=clock)
    one.draw("a", 1000, 1500)
    await one.close()
    two.draw("a", 1000, 100)
    assert not await two.has_any("a", 1000)
    clock.now += 5.0
    assert not await two.has_any("a", 1000)
    clock.now += 60.0
    assert await two.has_any("a", 1000)


async def test_a_new_window_of_the_sums_takes_nothing_twice(db: Database, clock: Clock) -> None:
    one, two = Rates(db, clock=clock), Rates(db, clock=clock)
    assert await taken(one, LOW, 2) == 2
    await passes(61.0, db, clock)
    assert await taken(two, LOW, 2) == 2
    assert await taken(one, LOW, 4) == 3


async def test_without_a_database_each_counts_for_itself_and_tells_afterwards(
    db: Database, database_url: str, clock: Clock
) -> None:
    closed = Database(database_url)
    alone = Rates(closed, clock=clock)
    assert await taken(alone, LOW, 7) == 5
    await closed.open()
    clock.now += 11.0
    await alone.close()
    assert await taken(Rates(db, clock=clock), LOW, 1) == 0
    await closed.close()
