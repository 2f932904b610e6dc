"""The way out, from a claim to a settled result: routes found, sites paced, attempts made, results written.

A claim asks for as much as each site has room for. What it brings is grouped into jobs (one SMTP transaction each),
routed to the MX set, and handed to the site, which has it carried when its turn has come. The result is decided
(``settle``) and written at once (``settler``).
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.tenant import current_tenant
from clawmail.core.outbound.attempt import Carrier, Interrupted
from clawmail.core.outbound.bounces import Bounces
from clawmail.core.outbound.jobs import Job, jobs_of
from clawmail.core.outbound.leases import Leases
from clawmail.core.outbound.local import LocalCarrier
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.presets import Presets
from clawmail.core.outbound.settle import Decision, Schedule, decide, settlement
from clawmail.core.outbound.settler import Settler, failure_of
from clawmail.core.outbound.site import Site
from clawmail.core.outbound.sites import Sites
from clawmail.core.outbound.tls_policy import TlsPolicies
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery
from clawmail.net.fetch import Fetcher
from clawmail.net.mx import find_route
from clawmail.net.smtp_client import Session, Withdrawn
from clawmail.protocol.dns import Resolver
from clawmail.protocol.replies import our_reply
from clawmail.store.db import Database
from clawmail.store.deliveries import Claim

#: rows asked for by one claim: nearly all of its time is theirs, and it shall stay under 5 ms.
CLAIM_ROWS = 32
#: destinations asked about at once, whether they are ours: a long queue must not fill the line to the database.
ASKING_AT_ONCE = 2

log = logger("queue")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the way out is made of."""

    db: Database
    resolver: Resolver
    leases: Leases
    carrier: Carrier
    settler: Settler
    bounces: Bounces
    policies: TlsPolicies
    fetcher: Fetcher
    presets: Presets
    schedule: Schedule
    metrics: OutboundMetrics
    #: takes what stays in the house.
    local: LocalCarrier | None
    clock: Callable[[], datetime]


class Outbound:
    """The outbound queue's work in one process."""

    def __init__(
        self, parts: Parts, *, max_in_flight: int, on_room: Callable[[], None], on_notice: Callable[[], None]
    ) -> None:
        """``on_room``: something was finished, more may be claimed. ``on_notice``: a sender is owed a notice."""
        self._parts = parts
        self._leases = parts.leases
        self._max_in_flight = max_in_flight
        self._on_room = on_room
        self._on_notice = on_notice
        self._tasks: set[asyncio.Task[None]] = set()
        self._asking = asyncio.Semaphore(ASKING_AT_ONCE)
        self._sites = Sites(
            parts.db,
            parts.presets,
            parts.schedule,
            carry=self._carry,
            give_back=self._give_back,
            on_room=on_room,
            clock=parts.clock,
        )

    @property
    def held(self) -> int:
        """Deliveries under our lease."""
        return len(self._leases)

    # What the worker's loops call. All may raise StoreUnwell.

    async def claim(self) -> Claim | None:
        """Claims what there is room for and starts on it; None when this process has its hands full."""
        free = self._max_in_flight - len(self._leases)
        if free <= 0:
            return None
        sites = self._sites
        claimed = await self._leases.claim(sites.rooms(), sites.usual_room, min(free, CLAIM_ROWS), sites.learnt())
        self._start(claimed.deliveries)
        return claimed

    async def keep(self) -> int:
        """Renews what is held, takes over what dead processes held (how many), and writes down what was counted."""
        await self._leases.renew()
        await self._parts.policies.write_counts(self._parts.db)
        return await self._leases.take_over()

    async def write_notices(self) -> int:
        """Tells senders what they are owed; how many notices that took."""
        return await self._parts.bounces.write_due()

    async def stop(self, grace: float) -> None:
        """Gives back what was not started, lets the rest finish within ``grace`` seconds, then hangs up."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sites.close(grace)
        await self._parts.settler.close()
        await self._leases.release(self._leases.held())
        await self._parts.fetcher.close()
        try:
            await self._parts.policies.write_counts(self._parts.db)
        except StoreUnwell as unwell:
            log.warning("tls results not counted", problem=unwell.message)

    # From a claim to the sites.

    def _start(self, claimed: Sequence[ClaimedDelivery]) -> None:
        """Finds the way for each destination, all at once."""
        by_destination: dict[str, list[ClaimedDelivery]] = defaultdict(list)
        for delivery in claimed:
            by_destination[delivery.destination].append(delivery)
        for destination, those in by_destination.items():
            task = asyncio.create_task(self._dispatch_safely(destination, those), name=f"route {destination}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _dispatch_safely(self, destination: str, those: Sequence[ClaimedDelivery]) -> None:
        """Whatever goes wrong, ``those`` get a result or are given back."""
        try:
            await self._dispatch(destination, those)
        except StoreUnwell as unwell:
            log.warning("not started", destination=destination, problem=unwell.message)
            await self._leases.release(those)
        except Exception as error:  # noqa: BLE001  a fault of ours must not leave deliveries leased for ever
            self._fail(those, destination, error)

    async def _dispatch(self, destination: str, those: Sequence[ClaimedDelivery]) -> None:
        local = self._parts.local
        async with self._asking:
            ours = local is not None and await local.takes(destination)
        if local is not None and ours:
            for delivery in those:
                await self._hand_over(local, delivery)
            return
        started = asyncio.get_running_loop().time()
        route = await find_route(self._parts.resolver, destination)
        if route.refusal is not None:
            seconds = asyncio.get_running_loop().time() - started
            outcome = Outcome((Try("", "", Stage.DNS, route.refusal, seconds=seconds),))
            for delivery in those:
                self._finish(delivery, outcome)
            return
        site = self._sites.of(route)
        site.offer(list(jobs_of(those, route, encrypted=site.pace.limits.require_tls)))

    async def _hand_over(self, local: LocalCarrier, delivery: ClaimedDelivery) -> None:
        """Hands one over in the house, and at once to the settler: what is filed and not settled is filed again."""
        if not self._leases.may_send([delivery]):
            self._lose([delivery])
            return
        try:
            outcomes = await local.carry([delivery])
        except Exception as error:  # noqa: BLE001  a fault of ours must not leave deliveries leased for ever
            self._fail([delivery], delivery.destination, error)
        else:
            self._finish(delivery, outcomes[delivery.id])

    async def _give_back(self, jobs: Sequence[Job]) -> None:
        await self._leases.release([delivery for job in jobs for delivery in job.deliveries])

    # From a site to the result.

    async def _carry(self, site: Site, job: Job, session: Session | None) -> Session | None:
        """Carries one job for ``site``; whatever goes wrong, its deliveries get a result or are given back."""
        current_tenant.set(job.deliveries[0].organisation_id)
        try:
            outcomes, left = await self._parts.carrier.carry(job, session)
            for outcome in outcomes.values():
                self._parts.metrics.tried(site.name, outcome)
            await self._sites.observe(site, list(outcomes.values()))
        except Interrupted as broken_off:
            for delivery in job.deliveries:
                self._finish(delivery, broken_off.outcomes[delivery.id])
            raise
        except Withdrawn:
            self._lose(job.deliveries)
            return None
        except StoreUnwell as unwell:
            log.warning("message not read", problem=unwell.message)
            await self._leases.release(job.deliveries)
            return None
        except Exception as error:  # noqa: BLE001  a fault of ours must not leave deliveries leased for ever
            self._fail(job.deliveries, job.route.destination, error)
            return None
        for delivery in job.deliveries:
            self._finish(delivery, outcomes[delivery.id])
        return left

    def _lose(self, those: Sequence[ClaimedDelivery]) -> None:
        """Lets go of what may be somebody else's by now; nothing of it has left."""
        log.warning("lease ran out before the message left", deliveries=[str(one.id) for one in those])
        for delivery in those:
            self._leases.settled(delivery)
        self._parts.metrics.leases_lost.inc(len(those))
        self._on_room()

    def _fail(self, those: Sequence[ClaimedDelivery], destination: str, error: Exception) -> None:
        log.error("attempt failed", destination=destination, exc_info=error)
        outcome = Outcome((Try("", "", Stage.LOCAL, our_reply(451, "4.3.0", "internal error")),))
        for delivery in those:
            self._finish(delivery, outcome)

    def _finish(self, delivery: ClaimedDelivery, outcome: Outcome) -> None:
        """Decides, and hands the result to the settler, which writes it at once."""
        decision = decide(outcome, delivery, self._parts.schedule, random.random())
        row = settlement(outcome, delivery, decision, self._parts.clock())
        self._parts.metrics.settled(outcome, decision)
        self._parts.settler.submit(
            row, failure_of(delivery, outcome, decision), lambda kept: self._settled(delivery, decision, kept=kept)
        )
        log.info(
            decision.state.value,
            delivery=str(delivery.id),
            to=delivery.recipient,
            host=outcome.last.host,
            reply=str(outcome.reply),
            tls=str(outcome.last.tls or ""),
            attempt=delivery.attempts + 1,
        )

    def _settled(self, delivery: ClaimedDelivery, decision: Decision, *, kept: bool) -> None:
        self._leases.settled(delivery)
        if not kept:
            log.warning("lease lost before its result was written", delivery=str(delivery.id), state=decision.state)
            self._parts.metrics.leases_lost.inc()
        elif decision.notice is not None:
            self._on_notice()
        self._on_room()
