"""What all processes know of destinations: which site a domain belongs to, and what is parked or paused.

A site is parked when nobody answers there, so that its mail waits in the queue instead of being tried in vain; that
costs a delivery none of its retries. An operator pauses a domain or a site until he resumes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("destinations")


@dataclass(frozen=True, slots=True)
class Closed:
    """A destination that takes nothing now."""

    name: str
    site: str
    parked_until: datetime | None
    #: times parked in a row.
    failures: int
    problem: str
    paused_at: datetime | None
    pause_reason: str


async def learn(conn: Connection, sites: Mapping[str, str], now: datetime) -> None:
    """Writes down which site each domain was seen at."""
    names = sorted(sites)
    await conn.execute(_sql.learn, names, [sites[name] for name in names], now)


async def park(
    conn: Connection, site: str, now: datetime, *, first_seconds: float, most_seconds: float, why: str
) -> None:
    """Leaves a dead site alone: ``first_seconds``, doubled each further time up to ``most_seconds``."""
    await conn.execute(_sql.park, site, now, first_seconds, most_seconds, why)


async def suspend(conn: Connection, site: str, now: datetime, until: datetime, why: str) -> None:
    """Leaves a site alone until a moment, because it asked for that."""
    await conn.execute(_sql.suspend, site, now, until, why)


async def answers(conn: Connection, site: str, now: datetime) -> None:
    """A site that was parked took mail again."""
    await conn.execute(_sql.answers, site, now)


async def pause(conn: Connection, name: str, now: datetime, reason: str) -> None:
    """Stops a domain or a site until ``resume``."""
    await conn.execute(_sql.pause, name, now, reason)


async def resume(conn: Connection, name: str, now: datetime) -> bool:
    """Lets it go on; False if it was neither paused nor parked."""
    return await conn.fetchval(_sql.resume, name, now) is not None


async def closed(conn: Connection, now: datetime, *, limit: int) -> list[Closed]:
    """What is parked or paused now, by name."""
    return [_closed(row) for row in await conn.fetch(_sql.closed, now, limit)]


async def forget_old(conn: Connection, before: datetime) -> None:
    """Removes domains not seen since ``before``."""
    await conn.execute(_sql.forget_old, before)


def _closed(row: Any) -> Closed:
    return Closed(
        row["name"],
        row["site"],
        row["parked_until"],
        row["failures"],
        row["problem"],
        row["paused_at"],
        row["pause_reason"],
    )
