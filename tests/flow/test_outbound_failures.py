"""Hosts that misbehave: every one of them ends in a state, an event and a reply that say what happened."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from clawmail.store.db import Database
from tests.support.outgoing import (
    events_of,
    inbound,
    make_settings,
    make_worker,
    mx_zone,
    queue,
    reached,
    rows,
    running,
    settled,
)
from tests.support.smtp_sink import SmtpSink
from tests.support.tenants import Tenant
from tests.support.zones import SERVFAIL, Zone

BOB = ["bob@there.test"]


async def test_a_dead_first_mx_is_followed_by_the_second(db: Database, tenant: Tenant) -> None:
    zone = {
        "there.test": {"MX": ["10 dead.there.test", "20 good.there.test"]},
        "dead.there.test": {"A": ["127.0.0.77"]},
        "good.there.test": {"A": ["127.0.0.1"]},
    }
    async with SmtpSink() as mx, running(make_worker(db, zone, make_settings(mx.port))):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
        assert (row["state"], row["attempts"], row["last_host"]) == ("delivered", 1, "good.there.test")
        told = await events_of(db, row["id"])
        assert [(kind, detail["host"]) for kind, detail in told] == [
            ("attempted", "dead.there.test"),
            ("attempted", "good.there.test"),
            ("delivered", "good.there.test"),
        ]
        # The dead host is remembered: the next mail goes to the good one at once.
        (again,) = await settled(db, (await queue(db, tenant, BOB))[1])
        assert [detail["host"] for _, detail in await events_of(db, again["id"])] == ["good.there.test"] * 2


async def test_greylisting_is_waited_out(db: Database, tenant: Tenant) -> None:
    tries = itertools.count()
    replies = {"RCPT": lambda _a: "451 4.7.1 Greylisted, come back" if next(tries) == 0 else None}
    async with (
        SmtpSink(replies=replies) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], row["attempts"]) == ("delivered", 2)
    kinds = [kind for kind, _ in await events_of(db, row["id"])]
    assert kinds == ["attempted", "deferred", "attempted", "delivered"]


async def test_the_schedule_ends_in_a_bounce(db: Database, tenant: Tenant) -> None:
    async with (
        SmtpSink(replies={"RCPT": "450 4.2.0 not now"}) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
        bounce = await inbound(db, tenant)
    assert (row["state"], row["attempts"]) == ("expired", 3)
    assert b"5.4.7" in bounce["raw"] and b"not now" in bounce["raw"]
    kind, detail = (await events_of(db, row["id"]))[-1]
    assert (kind, detail["expired"], detail["weight"]) == ("bounced", True, "soft")


@pytest.mark.parametrize("octet", ["\0", "\udcff"])
async def test_a_host_with_an_impossible_name_holds_up_nobody(db: Database, tenant: Tenant, octet: str) -> None:
    host = f"m{octet}x.evil.test"
    zone = {**mx_zone(["there.test"]), "evil.test": {"MX": [f"10 {host}"]}, host: {"A": ["127.0.0.1"]}}
    async with SmtpSink() as mx, running(make_worker(db, zone, make_settings(mx.port))):
        (evil,) = await settled(db, (await queue(db, tenant, ["bob@evil.test"]))[1])
        (good,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (evil["state"], good["state"]) == ("bounced", "delivered")
    assert evil["last_reply"] == "550 5.4.4 the MX records of evil.test name no host"


async def test_a_421_goes_to_the_next_host(db: Database, tenant: Tenant) -> None:
    zone = {
        "there.test": {"MX": ["10 busy.there.test", "20 good.there.test"]},
        "busy.there.test": {"A": ["127.0.0.2"]},
        "good.there.test": {"A": ["127.0.0.1"]},
    }
    async with (
        SmtpSink() as good,
        SmtpSink(host="127.0.0.2", port=good.port, replies={"MAIL": "421 4.3.2 too busy"}) as busy,
        running(make_worker(db, zone, make_settings(good.port))),
    ):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], row["attempts"], row["last_host"]) == ("delivered", 1, "good.there.test")
    assert busy.connections == 1 and not busy.messages


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_host_that_hangs_up_early_is_tried_again(db: Database, tenant: Tenant, stage: str) -> None:
    mx = SmtpSink(hang_up=stage)
    async with (
        mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, retry_schedule_seconds=[0.3] * 9))),
    ):
        _, ids = await queue(db, tenant, BOB)
        await reached(db, ids, "deferred")
        mx.hang_up = ""
        (row,) = await settled(db, ids)
    assert row["state"] == "delivered"
    assert len(mx.messages) == 1
    kind, detail = (await events_of(db, row["id"]))[1]
    assert kind == "deferred" and "possible_duplicate" not in detail


async def test_a_host_that_hangs_up_after_the_dot_may_get_it_twice_and_we_say_so(db: Database, tenant: Tenant) -> None:
    mx = SmtpSink(hang_up="AFTER DOT")
    slow = {"retry_schedule_seconds": [0.3] * 9}
    async with mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, **slow))):
        _, ids = await queue(db, tenant, BOB)
        await reached(db, ids, "deferred")
        mx.hang_up = ""
        (row,) = await settled(db, ids)
    assert row["state"] == "delivered" and len(mx.messages) == 2
    kind, detail = (await events_of(db, row["id"]))[1]
    assert (kind, detail["possible_duplicate"]) == ("deferred", True)


async def test_an_idle_connection_that_went_away_costs_no_attempt(db: Database, tenant: Tenant) -> None:
    async with SmtpSink() as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        await settled(db, (await queue(db, tenant, BOB))[1])
        await mx.drop_connections()
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], row["attempts"], mx.connections) == ("delivered", 1, 2)
    assert [kind for kind, _ in await events_of(db, row["id"])] == ["attempted", "delivered"]


REFUSED: list[tuple[str, Zone, str, str]] = [
    ("bob@null.test", {"null.test": {"MX": ["0 ."]}}, "bounced", "556 5.1.10 null.test takes no mail (null MX)"),
    ("bob@gone.test", {"other.test": {"A": ["192.0.2.1"]}}, "bounced", "550 5.4.4 gone.test has no address"),
    ("bob@sick.test", {"sick.test": {"MX": SERVFAIL}}, "expired", "451 4.4.3 MX of sick.test:"),
]


@pytest.mark.parametrize(("recipient", "zone", "state", "reply"), REFUSED, ids=[case[0] for case in REFUSED])
async def test_domains_nobody_can_write_to(
    db: Database, tenant: Tenant, recipient: str, zone: Zone, state: str, reply: str
) -> None:
    async with running(make_worker(db, zone, make_settings(25))):
        (row,) = await settled(db, (await queue(db, tenant, [recipient]))[1])
    assert row["state"] == state
    assert row["last_reply"].startswith(reply)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "::1", "::ffff:192.168.1.1"])
async def test_private_addresses_are_not_dialled(db: Database, tenant: Tenant, address: str) -> None:
    kind = "AAAA" if ":" in address else "A"
    zone = {"there.test": {"MX": ["10 mx.there.test"]}, "mx.there.test": {kind: [address]}}
    async with SmtpSink() as mx, running(make_worker(db, zone, make_settings(mx.port, allow_private=False))):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], row["last_reply"]) == ("bounced", "550 5.4.4 mx.there.test has no public address")
    assert not mx.connections


async def test_mail_for_others_that_leads_back_here_is_a_loop(db: Database, tenant: Tenant) -> None:
    zone = mx_zone(["there.test"], "192.0.2.1")  # server.public_ip of these settings
    async with running(make_worker(db, zone, make_settings(25))):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert row["state"] == "bounced"
    assert row["last_reply"].startswith("554 5.4.6 ")


async def test_an_address_literal_is_its_own_host(db: Database, tenant: Tenant) -> None:
    async with SmtpSink() as mx, running(make_worker(db, {"x.test": {}}, make_settings(mx.port))):
        (row,) = await settled(db, (await queue(db, tenant, ["bob@[127.0.0.1]"]))[1])
    assert row["state"] == "delivered"
    assert mx.recipients() == ["bob@[127.0.0.1]"]


async def test_a_dead_site_is_parked_and_costs_the_waiting_no_retries(db: Database, tenant: Tenant) -> None:
    settings = make_settings(9, retry_schedule_seconds=[30.0, 30.0])  # nobody listens at port 9
    async with running(make_worker(db, mx_zone(["there.test"]), settings)):
        ids = [(await queue(db, tenant, BOB))[1][0] for _ in range(40)]
        async with asyncio.timeout(10):
            while True:
                found = await rows(db, ids)
                async with db.connection() as conn:
                    parked = await conn.fetchrow("SELECT * FROM destinations WHERE name = 'mx.there.test'")
                if parked is not None and not any(row["state"] == "leased" for row in found):
                    break
                await asyncio.sleep(0.05)
    tried = [row for row in found if row["attempts"]]
    assert 1 <= len(tried) <= 10
    assert {row["state"] for row in tried} == {"deferred"}
    assert {(row["state"], row["attempts"]) for row in found if not row["attempts"]} == {("queued", 0)}
    assert parked["parked_until"] is not None and parked["failures"] >= 1


async def test_a_black_hole_does_not_hold_the_others_up(db: Database, tenant: Tenant) -> None:
    zone = mx_zone([f"d{number}.test" for number in range(20)]) | mx_zone(["hole.test"], "127.0.0.3")
    settings = make_settings(0)
    async with SmtpSink() as mx:
        settings = make_settings(mx.port, command_timeout_seconds=60.0, max_attempts_in_flight=60)
        async with SmtpSink(host="127.0.0.3", port=mx.port, silent="CONNECT"):
            hole = [(await queue(db, tenant, ["x@hole.test"]))[1][0] for _ in range(100)]
            good = [(await queue(db, tenant, [f"x@d{number % 20}.test"]))[1][0] for number in range(200)]
            async with running(make_worker(db, zone, settings)) as worker:
                found = await settled(db, good, seconds=20)
                assert {row["state"] for row in found} == {"delivered"}
                assert {row["state"] for row in await rows(db, hole)} <= {"leased", "queued"}
                assert worker.outbound.held <= 20


async def test_too_many_recipients_at_once_follow_in_the_next_transaction(db: Database, tenant: Tenant) -> None:
    taken: list[str] = []

    def at_most_four(argument: str) -> str | None:
        if sum(argument.startswith("TO:") for argument in taken) >= 4:
            return "452 4.5.3 too many recipients"
        taken.append(argument)
        return None

    def fresh(_argument: str) -> None:
        taken.clear()

    replies = {"RCPT": at_most_four, "MAIL": fresh}
    _, ids = await queue(db, tenant, [f"r{number}@there.test" for number in range(10)])
    async with (
        SmtpSink(replies=replies) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        found = await settled(db, ids)
    assert {(row["state"], row["attempts"]) for row in found} == {("delivered", 1)}
    assert [len(taken.recipients) for taken in mx.messages] == [4, 4, 2]
