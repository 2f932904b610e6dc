"""How often callers came, of all processes together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("rate_counts")


class Count(NamedTuple):
    """The count of a window."""

    number: int
    #: until the window ends, by the database's clock.
    seconds: float


async def exchange(conn: Connection, counted: Mapping[str, Count]) -> dict[str, Count]:
    """Adds what was counted here to what all have counted; returns the sums, by key."""
    keys = sorted(counted)
    rows = await conn.fetch(
        _sql.exchange, keys, [counted[key].number for key in keys], [counted[key].seconds for key in keys]
    )
    return {row["key"]: Count(row["count"], row["seconds"]) for row in rows}


async def forget(conn: Connection) -> None:
    """Drops the counts of windows that are over."""
    await conn.execute(_sql.forget)
