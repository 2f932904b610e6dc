"""Answers kept for requests that may be repeated: one row for each inbox, route and Idempotency-Key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("idempotency")

#: where a key stands: inbox, route, key.
Place = tuple[UUID, str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a key that is taken."""

    body_sha256: bytes
    #: None while the first request is in flight.
    status: int | None
    answer: bytes | None


async def begin(
    conn: Connection,
    place: Place,
    body_sha256: bytes,
    *,
    claim: UUID,
    seconds: float,
    now: datetime,
    forget_before: datetime,
    dead_before: datetime,
) -> Kept | None:
    """Takes the key ``place`` on ``claim`` for so many seconds and returns None, or says what is kept of it.

    ``dead_before`` is for requests of a release that had no claims.
    """
    row = (*place, body_sha256, now, forget_before, dead_before, claim, seconds)
    if await conn.fetchval(_sql.begin, *row) is not None:
        return None
    row = await conn.fetchrow(_sql.kept, *place)
    # Freed between the two statements by a request that failed: for this caller it was in flight.
    return Kept(**row) if row else Kept(body_sha256, None, None)


async def renew(conn: Connection, held: Mapping[UUID, Place], seconds: float) -> None:
    """Prolongs the claims of requests that are not answered yet."""
    inboxes, routes, keys = zip(*held.values(), strict=True)
    await conn.execute(_sql.renew, inboxes, routes, keys, list(held), seconds)


async def free(conn: Connection, place: Place, claim: UUID) -> None:
    """Frees a key whose request was not answered, unless somebody else has it by now."""
    await conn.execute(_sql.free, *place, claim)


async def forget(conn: Connection, before: datetime, at_most: int) -> int:
    """Deletes answers kept since before that moment; returns how many."""
    status: str = await conn.execute(_sql.forget, before, at_most)
    return int(status.rpartition(" ")[2])
