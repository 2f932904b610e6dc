"""Results written as they come, many in one commit.

The reply after the dot is the moment a message is delivered, and until it is written down a crash would send it again.
So nothing waits for a fuller batch longer than two milliseconds. What arrives while a commit is under way shares the
next one. When the database is away, the batch is tried again until its leases are lost; only then has somebody else
the right to decide.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.tenant import house_task
from clawmail.core.outbound.settle import Decision
from clawmail.model.attempt import Outcome, Stage
from clawmail.model.delivery import ClaimedDelivery, Settlement, State
from clawmail.store import deliveries, suppressions
from clawmail.store.db import Database

#: settlements of one commit.
MAX_BATCH = 100
#: how long a result waits for others to share its commit.
GATHER_SECONDS = 0.002
#: gaps between tries when the database is away.
RETRY_GAPS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0)

log = logger("queue")


@dataclass(frozen=True, slots=True)
class Failure:
    """A send that failed for good, for the suppression list."""

    organisation_id: UUID
    domain_id: UUID
    address: str
    hard: bool
    detail: str


@dataclass(frozen=True, slots=True)
class _Entry:
    settlement: Settlement
    failure: Failure | None
    done: Callable[[bool], None]


class Settler:
    """Writes settlements under one owner's leases."""

    def __init__(self, db: Database, owner: UUID, *, lease_seconds: float, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._waiting: deque[_Entry] = deque()
        self._flusher: asyncio.Task[None] | None = None

    def submit(self, settlement: Settlement, failure: Failure | None, done: Callable[[bool], None]) -> None:
        """Writes one result at once; ``done(kept)`` follows: False if the lease was lost and it no longer counts."""
        self._waiting.append(_Entry(settlement, failure, done))
        if self._flusher is None:
            self._flusher = house_task(self._flush(), "settler")

    async def close(self) -> None:
        """Waits until everything handed in is written, or is somebody else's."""
        if self._flusher is not None:
            await asyncio.wait({self._flusher})

    async def _flush(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) > 1:
                    await asyncio.sleep(GATHER_SECONDS)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
                kept = await self._write(batch)
                for entry in batch:
                    entry.done(entry.settlement.delivery_id in kept)
        finally:
            self._flusher = None

    async def _write(self, batch: Sequence[_Entry]) -> set[UUID]:
        """Writes a batch; the ids that were still ours."""
        loop = asyncio.get_running_loop()
        give_up, tries = loop.time() + self._lease_seconds, 0
        while True:
            try:
                return await self._transaction(batch)
            except StoreUnwell as unwell:
                if loop.time() > give_up:
                    log.error("results lost: the database was away for a whole lease", deliveries=len(batch))
                    return set()
                log.warning("results wait for the database", deliveries=len(batch), problem=unwell.message)
                await asyncio.sleep(RETRY_GAPS_SECONDS[min(tries, len(RETRY_GAPS_SECONDS) - 1)])
                tries += 1
            except Exception as error:  # one result that cannot be written must not take others with it
                if len(batch) > 1:
                    return set().union(*[await self._write([entry]) for entry in batch])
                log.error("result not written", delivery=str(batch[0].settlement.delivery_id), exc_info=error)
                return set()

    async def _transaction(self, batch: Sequence[_Entry]) -> set[UUID]:
        now = self._clock()
        settlements = [entry.settlement for entry in batch]
        failures = [entry for entry in batch if entry.failure is not None]
        if not failures:
            async with self._db.connection() as conn:
                return await deliveries.settle(conn, self._owner, settlements, now)
        async with self._db.transaction() as conn:
            kept = await deliveries.settle(conn, self._owner, settlements, now)
            for entry in failures:
                if entry.failure is not None and entry.settlement.delivery_id in kept:
                    await record_failure(conn, entry.failure, now)
            return kept


async def record_failure(conn: object, failure: Failure, now: datetime) -> None:
    """Takes a failed send into the suppression list, in the transaction that settles it."""
    record = suppressions.record_hard if failure.hard else suppressions.record_soft
    await record(
        conn,
        organisation_id=failure.organisation_id,
        domain_id=failure.domain_id,
        address=failure.address,
        detail=failure.detail,
        now=now,
    )


def failure_of(delivery: ClaimedDelivery, outcome: Outcome, decision: Decision) -> Failure | None:
    """What the suppression list has to know: sends that failed for good, except where the host only blocks us."""
    if delivery.kind != "send" or decision.state not in (State.BOUNCED, State.EXPIRED) or decision.verdict is None:
        return None
    if decision.verdict.weight == "block" or outcome.last.stage is Stage.LOCAL:
        return None
    return Failure(
        delivery.organisation_id,
        delivery.domain_id,
        delivery.recipient,
        hard=decision.verdict.weight == "hard",
        detail=str(outcome.reply),
    )
