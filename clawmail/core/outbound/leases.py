"""The deliveries this process has under lease: claimed, renewed by one heartbeat, given back.

Whatever is claimed is held here until its result is written. What is held is renewed, and nothing else is: a row whose
claim committed but never reached us runs out by itself and is taken over like a dead process's.

A process that slept, or could not renew, learns of it from its own monotonic clock: what it may no longer hold it does
not send. So a second copy needs a death between the last octet of the message and our commit; a long sleep alone, with
a queue full of claimed work, makes none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from string import ascii_lowercase
from uuid import UUID

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.model.delivery import ClaimedDelivery
from clawmail.store import deliveries, destinations
from clawmail.store.db import Database

log = logger("queue")


class Leases:
    """One owner's leases."""

    def __init__(
        self,
        db: Database,
        owner: UUID,
        *,
        lease_seconds: float,
        metrics: OutboundMetrics,
        clock: Callable[[], datetime],
    ) -> None:
        self.owner = owner
        self.seconds = lease_seconds
        self._db = db
        self._lease = timedelta(seconds=lease_seconds)
        self._metrics = metrics
        self._clock = clock
        # Every process starts its turn somewhere else, so that they do not all look at the same rows.
        self._rings = deliveries.Rings(lane_destination=ascii_lowercase[owner.int % len(ascii_lowercase)])
        self._held: dict[UUID, ClaimedDelivery] = {}
        #: until when nobody else can have taken it over, in monotonic seconds; by delivery.
        self._safe_until: dict[UUID, float] = {}
        metrics.in_flight.set_function(lambda: len(self._held))

    def __len__(self) -> int:
        return len(self._held)

    def held(self) -> list[ClaimedDelivery]:
        """What is held now."""
        return list(self._held.values())

    def settled(self, delivery: ClaimedDelivery) -> None:
        """Its result is written, or somebody else's to write."""
        self._drop(delivery)

    def may_send(self, those: Sequence[ClaimedDelivery]) -> bool:
        """Whether all of ``those`` are ours for certain: no lease has run out, by a clock that nobody can set."""
        now = time.monotonic()
        return all(self._holds(one) and now < self._safe_until[one.id] for one in those)

    def _holds(self, delivery: ClaimedDelivery) -> bool:
        """Whether it is held under this very claim: what we lost may have come back to us under another."""
        held = self._held.get(delivery.id)
        return held is not None and held.lease_fence == delivery.lease_fence

    def _drop(self, delivery: ClaimedDelivery) -> None:
        if self._holds(delivery):
            del self._held[delivery.id], self._safe_until[delivery.id]

    async def claim(
        self, rooms: Mapping[str, int], other_room: int, limit: int, learnt: Mapping[str, str]
    ) -> deliveries.Claim:
        """Claims about ``limit`` deliveries. ``learnt``: sites of domains that claims should know of from now on."""
        asked, now = time.monotonic(), self._clock()
        async with self._db.connection() as conn:
            if learnt:
                await destinations.learn(conn, learnt, now)
            claimed = await deliveries.claim(
                conn,
                owner=self.owner,
                now=now,
                lease_until=now + self._lease,
                limit=limit,
                rings=self._rings,
                rooms=rooms,
                other_room=other_room,
            )
        self._held.update({delivery.id: delivery for delivery in claimed.deliveries})
        self._safe_until.update(dict.fromkeys((one.id for one in claimed.deliveries), asked + self.seconds))
        return claimed

    async def release(self, those: Iterable[ClaimedDelivery]) -> None:
        """Gives deliveries back untried; if that cannot be written, their leases run out by themselves."""
        those = list(those)
        rows = [(delivery.id, delivery.lease_fence, self._clock()) for delivery in those]
        for delivery in those:
            self._drop(delivery)
        if not rows:
            return
        try:
            async with self._db.connection() as conn:
                await deliveries.release(conn, self.owner, rows)
        except StoreUnwell as unwell:
            log.warning("not given back", deliveries=len(rows), problem=unwell.message)

    async def renew(self) -> None:
        """The heartbeat: prolongs every lease that is held."""
        if not self._held:
            return
        asked = time.monotonic()
        async with self._db.connection() as conn:
            kept = await deliveries.renew(conn, self.owner, list(self._held), self._clock() + self._lease)
        self._safe_until.update(dict.fromkeys(self._held.keys() & kept, asked + self.seconds))
        lost = len(self._held.keys() - kept)
        if lost:
            # Settled while the statement ran, most likely; a truly lost one shows when its result is written.
            log.debug("leases not renewed", deliveries=lost)

    async def take_over(self) -> int:
        """Puts back what dead processes held; how many there were."""
        async with self._db.transaction() as conn:
            taken = await deliveries.take_over(conn, self._clock())
        for one in taken:
            log.warning("lease taken over", delivery=str(one.id), to=one.recipient, from_owner=str(one.old_owner))
        self._metrics.takeovers.inc(len(taken))
        return len(taken)
