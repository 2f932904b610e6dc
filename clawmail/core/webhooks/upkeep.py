"""What keeps the queue of webhooks bounded: how much may wait, for how long, and what is kept of it afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

from clawmail.base.log import logger
from clawmail.core.upkeep import Chore
from clawmail.core.webhooks.metrics import WebhookMetrics
from clawmail.store import webhook_queue as store
from clawmail.store.db import Connection, Database

#: events that may wait for one endpoint; of more, those whose turn is next are given up.
MAX_WAITING = 10_000
#: an event that nobody took for so long is given up, whatever its endpoint's state.
MAX_AGE = timedelta(days=3)
#: a removed endpoint is emptied when no transaction can still write for it.
REMOVED_AGE = timedelta(hours=1)
#: seconds between two looks at how much waits.
BOUND_SECONDS = 60.0
#: rows of one transaction, and endpoints of one turn.
ROWS_AT_ONCE = 1000
ENDPOINTS_AT_ONCE = 100

log = logger("webhooks")


class WebhookUpkeep:
    """Gives up what waits too much or too long, and forgets what is settled."""

    def __init__(self, db: Database, *, kept_days: float, metrics: WebhookMetrics) -> None:
        """``kept_days``: how long it can be seen what became of an event; 0: for ever."""
        self._db = db
        self._kept = timedelta(days=kept_days)
        self._metrics = metrics

    def chores(self, clock: Callable[[], datetime], *, every_seconds: float) -> list[Chore]:
        """All of it, as periodic work."""
        return [
            Chore("bound webhooks", BOUND_SECONDS, self.bound),
            Chore("forget webhooks", every_seconds, lambda: self.forget(clock())),
        ]

    async def bound(self) -> int:
        """Gives up what is beyond ``MAX_WAITING`` of each endpoint. Returns how many events."""
        async with self._db.connection() as conn:
            waiting = await store.waiting(conn)
        self._metrics.waiting.set(sum(waiting.values()))
        dropped = 0
        for webhook_id, rows in waiting.items():
            if rows > MAX_WAITING:
                give_up = partial(store.drop, webhook_id=webhook_id, limit=ROWS_AT_ONCE, kept=MAX_WAITING)
                dropped += await self._in_batches(give_up)
        if dropped:
            log.warning("events dropped: too many waited for their webhooks", events=dropped)
            self._metrics.dropped.inc(dropped)
        return dropped

    async def forget(self, now: datetime) -> int:
        """Gives up what waits too long, deletes what was settled long ago and what removed endpoints left.

        Returns how many rows went or were given up.
        """
        expired = await self._in_batches(lambda conn: store.expire(conn, now - MAX_AGE, now, ROWS_AT_ONCE))
        self._metrics.failed.inc(expired)
        if self._kept:
            expired += await self._in_batches(lambda conn: store.forget(conn, now - self._kept, ROWS_AT_ONCE))
        async with self._db.connection() as conn:
            removed = await store.removed(conn, now - REMOVED_AGE, ENDPOINTS_AT_ONCE)
        for webhook_id in removed:
            expired += await self._in_batches(partial(store.empty, webhook_id=webhook_id, limit=ROWS_AT_ONCE))
        return expired

    async def _in_batches(self, work: Callable[[Connection], Awaitable[int]]) -> int:
        total, done = 0, ROWS_AT_ONCE
        while done == ROWS_AT_ONCE:
            async with self._db.transaction() as conn:
                done = await work(conn)
            total += done
        return total
