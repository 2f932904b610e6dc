"""A process that slept beyond its leases sends nothing of what it had claimed: others may have it by now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from uuid import UUID

import pytest

from clawmail.core.outbound import leases
from clawmail.core.outbound.local import LocalCarrier
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery
from clawmail.protocol.replies import our_reply
from clawmail.store.db import Database
from tests.support.outgoing import events_of, make_settings, make_worker, mx_zone, queue, reached, rows, running
from tests.support.smtp_sink import EXTENSIONS, SmtpSink
from tests.support.tenants import Tenant

LEASE_SECONDS = 1.0
SLEEP_SECONDS = 3600.0


@pytest.mark.parametrize(
    ("stage", "extensions"),
    [("MAIL", ()), ("RCPT", EXTENSIONS), ("DATA", EXTENSIONS), ("DATA", ()), ("RCPT", (*EXTENSIONS, "CHUNKING"))],
)
async def test_a_sleeper_does_not_send(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, stage: str, extensions: tuple[str, ...]
) -> None:
    """Up to the first octet of the message there is a way back; the message then leaves once, under a new claim."""
    slept: list[float] = []

    def fall_asleep(_argument: str) -> None:
        if not slept:
            slept.append(SLEEP_SECONDS)

    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + sum(slept))
    monkeypatch.setattr(leases, "time", clock)
    async with SmtpSink(replies={stage: fall_asleep}, extensions=extensions) as mx:
        settings = make_settings(mx.port, lease_seconds=LEASE_SECONDS, poll_seconds=0.2)
        async with running(make_worker(db, mx_zone(["there.test"]), settings)):
            _, ids = await queue(db, tenant, ["bob@there.test"])
            await reached(db, ids, "delivered")
    assert slept and mx.connections == 2
    assert mx.recipients() == ["bob@there.test"]
    assert [row["lease_fence"] for row in await rows(db, ids)] == [2]
    told = [(kind, detail.get("result")) for kind, detail in await events_of(db, ids[0])]
    assert ("attempted", "lease expired") in told


async def test_a_lease_that_came_back_under_another_claim_is_kept(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process alone loses a lease and claims the row again: the end of the first claim must not drop the second."""
    slept: list[float] = []
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(slept)))
    worker = make_worker(db, mx_zone(["there.test"]), make_settings(25, lease_seconds=60.0))
    held = worker.outbound._leases
    await queue(db, tenant, ["bob@there.test"])
    (first,) = (await held.claim({}, 5, 5, {})).deliveries
    assert held.may_send([first])
    slept.append(SLEEP_SECONDS)
    assert not held.may_send([first])
    async with db.connection() as conn:
        await conn.execute("UPDATE deliveries SET lease_until = now() - interval '1 second'")
    assert await held.take_over() == 1
    (second,) = (await held.claim({}, 5, 5, {})).deliveries
    assert (held.may_send([first]), held.may_send([second])) == (False, True)
    held.settled(first)
    assert held.held() == [second]
    await held.renew()
    slept.append(59.0)
    assert held.may_send([second])
    held.settled(second)
    assert held.held() == [] and not held.may_send([second])


class Letterbox(LocalCarrier):
    """Takes everything that stays in the house, and falls asleep after the first."""

    def __init__(self, slept: list[float]) -> None:
        self.taken: list[str] = []
        self._slept = slept

    async def takes(self, destination: str) -> bool:
        """Everything."""
        return True

    async def carry(self, those: Sequence[ClaimedDelivery]) -> dict[UUID, Outcome]:
        """Takes it."""
        self.taken += [delivery.recipient for delivery in those]
        if not self._slept:
            self._slept.append(SLEEP_SECONDS)
        reply = our_reply(250, "2.0.0", "filed")
        return {delivery.id: Outcome((Try("", "", Stage.DOT, reply),)) for delivery in those}


async def test_a_sleeper_hands_nothing_over_in_the_house(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over before is settled already; the rest is under another claim."""
    slept: list[float] = []
    monkeypatch.setattr(leases, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + sum(slept)))
    letterbox = Letterbox(slept)
    worker = make_worker(db, {"x.test": {}}, make_settings(25, lease_seconds=LEASE_SECONDS, poll_seconds=0.2))
    monkeypatch.setattr(worker.outbound, "_parts", replace(worker.outbound._parts, local=letterbox))
    recipients = [f"r{number}@there.test" for number in range(5)]
    _, ids = await queue(db, tenant, recipients)
    async with running(worker):
        await reached(db, ids, "delivered")
    assert sorted(letterbox.taken) == recipients
    assert sorted(row["lease_fence"] for row in await rows(db, ids)) == [1, 2, 2, 2, 2]
