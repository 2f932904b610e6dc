"""The queue of webhooks: claims what is due, posts it, settles it.

What is to be told are rows that were written with their events (``tell_webhooks`` in ``sql/migrations``). A round
writes the results there are and claims as much as there is room for, fairly: a few events of each endpoint, endpoint
by endpoint around a ring, so that neither a flood nor a dead host keeps anybody else's events waiting. Only what is
claimed is in memory, and only so many.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from clawmail.base.errors import StoreUnwell
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.tenant import current_tenant
from clawmail.core.webhooks.decide import reports, settlement
from clawmail.core.webhooks.metrics import WebhookMetrics
from clawmail.core.webhooks.post import Poster
from clawmail.model.events import EventType
from clawmail.model.mailbox import EmailView
from clawmail.model.webhooks import ClaimedWebhook, WebhookAttempt, WebhookState
from clawmail.store import webhook_queue as store
from clawmail.store.db import Database

#: POSTs under way, of one process.
MAX_IN_FLIGHT = 128
#: of those, of one organisation: however many slow endpoints it has, others find room at once.
MAX_OF_TENANT = 64
#: POSTs under way at one endpoint, of all processes; and at one that failed the last time.
AT_ONCE = 4
AT_ONCE_FAILING = 1

_FIRST_ID = UUID(int=0)

log = logger("webhooks")


class WebhookQueue:
    """What one process does of it."""

    def __init__(
        self,
        db: Database,
        poster: Poster,
        *,
        schedule: Sequence[float],
        lease_seconds: float,
        timeout_seconds: float,
        metrics: WebhookMetrics,
        clock: Callable[[], datetime],
        on_result: Callable[[], None],
    ) -> None:
        """``schedule``: seconds before each further try. ``on_result``: called when there is something to settle."""
        self.owner = new_id()
        self._db = db
        self._poster = poster
        self._schedule = schedule
        self._lease_seconds = lease_seconds
        self._timeout = timeout_seconds
        self._metrics = metrics
        self._clock = clock
        self._on_result = on_result
        #: the endpoint behind which the ring goes on.
        self._position = _FIRST_ID
        self._tasks: dict[asyncio.Task[None], ClaimedWebhook] = {}
        self._results: list[tuple[ClaimedWebhook, WebhookAttempt]] = []
        metrics.in_flight.set_function(lambda: len(self._tasks))

    async def round(self) -> datetime | None:
        """Settles and claims, once around the ring or until there is no room.

        Returns when there will be something to do that is not yet due; None: nobody knows of anything. Raises
        StoreUnwell; then what was not written is written the next time.
        """
        await self._settle()
        next_due: datetime | None = None
        from_top = self._position == _FIRST_ID
        while (room := MAX_IN_FLIGHT - len(self._tasks) - len(self._results)) > 0:
            due, whole = await self._claim(room)
            next_due = min((moment for moment in (due, next_due) if moment is not None), default=None)
            if whole and from_top:
                break
            from_top = from_top or whole
        return next_due

    async def stop(self, grace_seconds: float) -> None:
        """Finishes what is under way within ``grace_seconds``, settles it, gives the rest back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        left = list(self._tasks.items())
        for task, _ in left:
            task.cancel()
        await asyncio.gather(*(task for task, _ in left), return_exceptions=True)
        try:
            await self._settle()
            if left:
                async with self._db.connection() as conn:
                    await store.release(conn, self.owner, self._clock(), [claimed for _, claimed in left])
        except StoreUnwell as unwell:
            log.warning("not given back", webhooks=len(left), problem=unwell.message)

    async def _claim(self, room: int) -> tuple[datetime | None, bool]:
        """One step around the ring: when something is due there later, and whether the ring's end was reached."""
        asked, now = time.monotonic(), self._clock()
        views: dict[UUID, EmailView] = {}
        claimed: list[ClaimedWebhook] = []
        async with self._db.transaction() as conn:
            endpoints = await store.open_endpoints(conn, self._position, now)
            ours = [endpoint.webhook_id for endpoint in endpoints if endpoint.ours]
            if ours:
                claimed = await store.claim(
                    conn,
                    ours,
                    owner=self.owner,
                    now=now,
                    lease_until=now + timedelta(seconds=self._lease_seconds),
                    limit=room,
                    at_once=AT_ONCE,
                    at_once_failing=AT_ONCE_FAILING,
                    under_way=[one.tenant_id for one in self._tasks.values()],
                    of_one_tenant=MAX_OF_TENANT,
                )
            came = [one.event.email_id for one in claimed if one.event and one.event.type is EventType.RECEIVED]
            if came:
                views = await store.emails(conn, [email_id for email_id in came if email_id is not None])
        whole = len(endpoints) < store.WALK_STEPS
        self._position = _FIRST_ID if whole else endpoints[-1].webhook_id
        for one in claimed:
            if one.old_owner is not None:
                log.warning("lease taken over", webhook=str(one.webhook_id), event_id=str(one.event_id))
                self._metrics.takeovers.inc()
            view = views.get(one.event.email_id) if one.event and one.event.email_id else None
            task = asyncio.create_task(self._carry(one, view, asked), name=f"webhook {one.webhook_id}")
            self._tasks[task] = one
            task.add_done_callback(self._tasks.pop)
        return min((e.due for e in endpoints if e.due is not None and e.due > now), default=None), whole

    async def _carry(self, claimed: ClaimedWebhook, view: EmailView | None, asked: float) -> None:
        """Posts one, while it is ours for certain: a process that slept finds its lease gone by a clock of its own."""
        current_tenant.set(claimed.tenant_id)
        if time.monotonic() + self._timeout > asked + self._lease_seconds:
            self._metrics.leases_lost.inc()
            return
        try:
            attempt = await self._attempt(claimed, view)
        except Exception as error:  # a fault of ours must not leave an event unsettled
            log.error("attempt failed", webhook=str(claimed.webhook_id), exc_info=error)
            attempt = WebhookAttempt(None, "internal error", 0.0)
        self._metrics.tried(attempt)
        self._results.append((claimed, attempt))
        self._on_result()

    async def _attempt(self, claimed: ClaimedWebhook, view: EmailView | None) -> WebhookAttempt:
        if claimed.event is None:
            return WebhookAttempt(None, "the event was forgotten before it could be told", 0.0)
        sealed = (claimed.secret_sealed, claimed.old_secret_sealed)
        secrets = tuple(secret for secret in sealed if secret is not None)
        return await self._poster.post(claimed.webhook_id, claimed.url, secrets, claimed.event, view, self._clock())

    async def _settle(self) -> None:
        """Writes the results there are, all in one transaction."""
        results = list(self._results)
        if not results:
            return
        now = self._clock()
        rows = [settlement(claimed, attempt, self._schedule, now, random.random()) for claimed, attempt in results]
        endpoints = reports(results, now, random.random())
        async with self._db.transaction() as conn:
            kept = await store.settle(conn, self.owner, now, rows, endpoints)
        del self._results[: len(results)]
        self._metrics.leases_lost.inc(len(rows) - len(kept))
        for row in rows:
            if row.state is not WebhookState.DELIVERED and (row.webhook_id, row.event_id) in kept:
                log.info(
                    "not taken",
                    webhook=str(row.webhook_id),
                    event_id=str(row.event_id),
                    state=row.state.value,
                    problem=row.error,
                )
                self._metrics.failed.inc(row.state is WebhookState.FAILED)
        for endpoint in endpoints:
            if endpoint.disabled_reason is not None:
                log.warning("webhook disabled", webhook=str(endpoint.webhook_id), reason=endpoint.disabled_reason)
                self._metrics.disabled.inc()
