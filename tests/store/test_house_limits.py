"""Rate limits that several processes count together by way of PostgreSQL."""

from __future__ import annotations

import asyncio
import time

import pytest
from limits import RateLimitItemPerHour

from clawmail.core import house_limits
from clawmail.core.house_limits import AT_ONCE, HouseCounts, HouseLimiter
from clawmail.store.db import Database

LOW, HIGH = RateLimitItemPerHour(5), RateLimitItemPerHour(100)


def limiter(db: Database) -> HouseLimiter:
    """That of a further process."""
    return HouseLimiter(HouseCounts(db))


async def within(limits: HouseLimiter, item: RateLimitItemPerHour, times: int, caller: str = "a") -> int:
    """How many of so many requests were within the limit."""
    return sum([await limits.hit(item, caller) for _ in range(times)])


async def test_a_low_limit_is_one_limit(db: Database) -> None:
    one, two = limiter(db), limiter(db)
    taken = [await limits.hit(LOW, "a") for _ in range(4) for limits in (one, two)]
    assert taken == [True] * 5 + [False] * 3
    assert await limiter(db).hit(LOW, "a") is False
    assert await limiter(db).hit(LOW, "b") is True


async def test_a_high_limit_is_exceeded_by_a_tenth_at_most(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_limits, "EXCHANGE_SECONDS", 3600.0)
    one, two = limiter(db), limiter(db)
    taken = sum([await limits.hit(HIGH, "a") for _ in range(150) for limits in (one, two)])
    assert 100 <= taken <= 100 + AT_ONCE * 100
    await one.close()
    await two.close()


async def test_what_is_counted_is_told_within_a_second(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_limits, "EXCHANGE_SECONDS", 0.01)
    one, two = limiter(db), limiter(db)
    assert await within(one, HIGH, 9) == 9
    async with asyncio.timeout(20), db.connection() as conn:
        while await conn.fetchval("SELECT sum(count) FROM rate_counts") != 9:
            await asyncio.sleep(0.02)
    assert await two.hit(HIGH, "a")
    async with asyncio.timeout(20):
        while (await two.get_window_stats(HIGH, "a")).remaining != 90:
            await asyncio.sleep(0.02)
    await one.close()
    await two.close()


async def test_all_have_the_same_window(db: Database) -> None:
    one, two = limiter(db), limiter(db)
    assert await one.hit(LOW, "a")
    await asyncio.sleep(0.6)
    assert await two.hit(LOW, "a")
    ends = [(await limits.get_window_stats(LOW, "a")).reset_time for limits in (one, two)]
    assert ends[0] == pytest.approx(ends[1], abs=0.3)
    async with db.connection() as conn:
        await conn.execute("UPDATE rate_counts SET ends_at = now() - interval '1 second'")
    assert await within(limiter(db), LOW, 7) == 5


async def test_what_is_untold_of_an_old_window_is_not_told(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house_limits, "EXCHANGE_SECONDS", 3600.0)
    limits = limiter(db)
    assert await within(limits, HIGH, 9) == 9
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 3601)
    assert await limits.hit(HIGH, "a")
    await limits.close()
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count FROM rate_counts") == 1


async def test_a_clock_that_is_set_makes_no_window_longer(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = limiter(db)
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() + 30 * 86_400)
    assert await ahead.hit(LOW, "a")
    monkeypatch.undo()
    async with db.connection() as conn:
        assert 3500 < await conn.fetchval("SELECT extract(epoch FROM ends_at - now())::float8 FROM rate_counts") <= 3600


async def test_without_a_database_each_counts_for_itself(
    db: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house_limits, "FALLBACK_SECONDS", 0.0)
    closed = Database(database_url)
    alone = limiter(closed)
    assert await within(alone, LOW, 7) == 5
    await closed.open()
    assert await alone.hit(LOW, "a") is False
    await alone.close()
    assert await limiter(db).hit(LOW, "a") is False
    await closed.close()


async def test_counts_of_windows_that_are_over_are_dropped(db: Database) -> None:
    limits = limiter(db)
    await limits.hit(LOW, "a")
    await limits.hit(LOW, "b")
    async with db.connection() as conn:
        await conn.execute("UPDATE rate_counts SET ends_at = now() - interval '1 second' WHERE key LIKE '%/a/%'")
        await limits.forget()
        assert [row["key"].split("/")[1] for row in await conn.fetch("SELECT key FROM rate_counts")] == ["b"]
