"""Idempotency-Key: a request that is repeated is done once (draft-ietf-httpapi-idempotency-key-header).

The key is taken before the work begins and its answer is written in the transaction of the work, so a process that
dies in between leaves either both or neither. It is taken on a claim that is over in seconds; a process renews those of
its requests that take longer, so the keys of one that died are free when their claims are over. Nothing depends on how
long that is: who writes an answer has to have the claim still, or writes nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from clawmail.base.errors import Conflict, Invalid, StoreUnwell, Unprocessable
from clawmail.base.log import logger
from clawmail.base.tenant import house_task
from clawmail.model.outgoing import Idempotency
from clawmail.store import idempotency as store
from clawmail.store.db import Database
from clawmail.store.idempotency import Place

#: how long an answer is kept.
KEPT = timedelta(hours=24)
#: seconds that a claim lasts, and after which it is renewed.
HELD_SECONDS, RENEW_SECONDS = 10.0, 3.0
#: after which a request is taken for dead that a process of a release without claims left behind.
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
        #: requests in flight by their claims: the keys, and when they began on the loop's clock.
        self._held: dict[UUID, tuple[Place, float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._renewals: set[asyncio.Task[None]] = set()
        #: keys of requests that failed when the database went away, which could not be freed then; their claims.
        self._unfreed: dict[Place, UUID] = {}

    @asynccontextmanager
    async def request(self, inbox_id: UUID, once: Idempotency, now: datetime) -> AsyncIterator[StoredAnswer | None]:
        """Holds the key while the block works; yields the answer to repeat instead, if there is one.

        The block's work stores its answer itself (``Posting.idempotent_answer``). If the block raises before that, the
        key is free again. Raises Invalid, Conflict (in flight), Unprocessable (another body).
        """
        place = (inbox_id, once.route, check_key(once.key))
        repeated = await self._begin(place, once, now)
        if repeated is not None:
            yield repeated
            return
        self._hold(place, once.claim)
        try:
            yield None
        except Exception:  # not when cancelled: what was begun may be committing
            await self._free(place, once.claim)
            raise
        finally:
            del self._held[once.claim]

    async def _begin(self, place: Place, once: Idempotency, now: datetime) -> StoredAnswer | None:
        async with self._db.connection() as conn:
            if (lost := self._unfreed.pop(place, None)) is not None:
                await store.free(conn, place, lost)
            kept = await store.begin(
                conn,
                place,
                once.body_sha256,
                claim=once.claim,
                seconds=HELD_SECONDS,
                now=now,
                forget_before=now - KEPT,
                dead_before=now - DEAD_AFTER,
            )
        if kept is None:
            return None
        if kept.body_sha256 != once.body_sha256:
            raise Unprocessable(
                "This Idempotency-Key was used with another request body", code="idempotency_key_reused"
            )
        if kept.status is None or kept.answer is None:
            raise Conflict("A request with this Idempotency-Key is still in flight", code="idempotency_in_flight")
        return StoredAnswer(kept.status, kept.answer)

    def _hold(self, place: Place, claim: UUID) -> None:
        loop = asyncio.get_running_loop()
        self._held[claim] = place, loop.time()
        if self._timer is None:
            self._timer = loop.call_later(RENEW_SECONDS, self._look_for_long_ones)

    def _look_for_long_ones(self) -> None:
        """Has those renewed that take long, for as long as anything is in flight."""
        loop = asyncio.get_running_loop()
        begun_before = loop.time() - RENEW_SECONDS
        self._timer = loop.call_later(RENEW_SECONDS, self._look_for_long_ones) if self._held else None
        if long := {claim: place for claim, (place, begun) in self._held.items() if begun <= begun_before}:
            task = house_task(self._renew(long), "renew claims on keys")
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)

    async def _renew(self, held: Mapping[UUID, Place]) -> None:
        try:
            async with asyncio.timeout(RENEW_SECONDS), self._db.connection() as conn:
                await store.renew(conn, held, HELD_SECONDS)
        except (StoreUnwell, TimeoutError) as error:
            log.warning("claims on keys not renewed", problem=str(error) or "no answer in time")

    async def _free(self, place: Place, claim: UUID) -> None:
        try:
            async with self._db.connection() as conn:
                await store.free(conn, place, claim)
        except StoreUnwell as error:
            # The error of the work itself is what the caller has to hear. When it asks again here, the key is freed
            # first; at another process, when the claim is over.
            if len(self._unfreed) < MAX_UNFREED:
                self._unfreed[place] = claim
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
