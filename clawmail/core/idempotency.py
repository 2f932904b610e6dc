"""Idempotency-Key: a request that is repeated is done once (draft-ietf-httpapi-idempotency-key-header).

The key is taken before the work begins and its answer is written in the transaction of the work, so a process that
dies in between leaves either both or neither. A key left in flight by a dead process is free again after a while that
is longer than any request lives.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from clawmail.base.errors import Conflict, Invalid, StoreUnwell, Unprocessable
from clawmail.base.log import logger
from clawmail.store import idempotency as store
from clawmail.store.db import Database

#: how long an answer is kept.
KEPT = timedelta(hours=24)
#: after which a request without an answer is taken for dead; every wait of a request together is far shorter.
DEAD_AFTER = timedelta(minutes=10)
MAX_KEY_CHARACTERS = 256
#: keys remembered that could not be freed.
MAX_UNFREED = 10_000
#: old answers deleted in one statement.
FORGET_AT_ONCE = 5000

log = logger("api")


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first request was answered."""

    status: int
    body: bytes


def check_key(key: str) -> str:
    """The key of a request header, or Invalid."""
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise Invalid(f"Idempotency-Key has to be 1 to {MAX_KEY_CHARACTERS} printable characters")
    return key


class OnceOnly:
    """Requests with a key, of all processes on one database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        #: keys of requests that failed when the database went away, which could not be freed then; when they began.
        self._unfreed: dict[tuple[UUID, str, str], datetime] = {}

    @asynccontextmanager
    async def request(
        self, inbox_id: UUID, route: str, key: str, body_sha256: bytes, now: datetime
    ) -> AsyncIterator[StoredAnswer | None]:
        """Holds the key while the block works; yields the answer to repeat instead, if there is one.

        The block's work stores its answer itself (``Posting.idempotent_answer``). If the block raises before that, the
        key is free again. Raises Invalid, Conflict (in flight), Unprocessable (another body).
        """
        place = (inbox_id, route, check_key(key))
        repeated = await self._begin(place, body_sha256, now)
        try:
            yield repeated
        except Exception:  # not when cancelled: what was begun may be committing
            if repeated is None:
                await self._free(place, now)
            raise

    async def _begin(self, place: tuple[UUID, str, str], body_sha256: bytes, now: datetime) -> StoredAnswer | None:
        async with self._db.connection() as conn:
            begun_at = self._unfreed.pop(place, None)
            if begun_at is not None and now - begun_at < DEAD_AFTER:  # later it may be another process's
                await store.free(conn, place)
            kept = await store.begin(
                conn, place, body_sha256, now=now, forget_before=now - KEPT, dead_before=now - DEAD_AFTER
            )
        if kept is None:
            return None
        if kept.body_sha256 != body_sha256:
            raise Unprocessable(
                "This Idempotency-Key was used with another request body", code="idempotency_key_reused"
            )
        if kept.status is None or kept.answer is None:
            raise Conflict("A request with this Idempotency-Key is still in flight", code="idempotency_in_flight")
        return StoredAnswer(kept.status, kept.answer)

    async def _free(self, place: tuple[UUID, str, str], begun_at: datetime) -> None:
        try:
            async with self._db.connection() as conn:
                await store.free(conn, place)
        except StoreUnwell as error:
            # The error of the work itself is what the caller has to hear. When it asks again here, the key is freed
            # first; at another process, after DEAD_AFTER.
            if len(self._unfreed) < MAX_UNFREED:
                self._unfreed[place] = begun_at
            log.warning("idempotency key not freed", problem=error.message)

    async def forget_old(self, now: datetime) -> int:
        """Deletes answers that have been kept long enough; returns how many."""
        total = 0
        while True:
            async with self._db.connection() as conn:
                forgotten = await store.forget(conn, now - KEPT, FORGET_AT_ONCE)
            total += forgotten
            if forgotten < FORGET_AT_ONCE:
                return total
