"""Processes that die, databases that go away, operators that step in: nothing is lost, and doubles are told of."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import sys
from pathlib import Path

import asyncpg
import pytest

from clawmail.core.outbound.operator import OutboundQueue
from clawmail.model.delivery import State
from clawmail.store.db import Database
from clawmail.store.deliveries import Claim
from tests.support.outgoing import (
    events_of,
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

ROOT = Path(__file__).parents[2]


async def start_process(url: str, port: int, lease: float, domains: list[str]) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.outbound_process",
        url,
        str(port),
        str(lease),
        json.dumps(mx_zone(domains)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"at work\n"
    return process


async def test_of_two_processes_one_is_killed(db: Database, database_url: str, tenant: Tenant) -> None:
    """Nothing is lost; what the dead one may have sent already is said to be a possible double."""
    domains = [f"d{number}.test" for number in range(10)]
    ids = [(await queue(db, tenant, [f"r{number}@{domains[number % 10]}"]))[1][0] for number in range(150)]
    async with SmtpSink(delay=0.03) as mx:
        one = await start_process(database_url, mx.port, 1.5, domains)
        other = await start_process(database_url, mx.port, 1.5, domains)
        try:
            async with asyncio.timeout(20):
                while len(mx.messages) < 30:
                    await asyncio.sleep(0.01)
            one.kill()
            found = await settled(db, ids, seconds=30)
        finally:
            for process in (one, other):
                if process.returncode is None:
                    process.kill()
                await process.wait()
                process._transport.close()  # type: ignore[attr-defined]  # or its pipe is closed by the collector, with a warning
    assert {row["state"] for row in found} == {"delivered"}
    arrived = collections.Counter(mx.recipients())
    assert len(arrived) == 150
    for row in found:
        if arrived[row["recipient"]] > 1:
            told = [detail for _, detail in await events_of(db, row["id"])]
            assert any(detail.get("possible_duplicate") for detail in told)


async def test_a_lost_connection_does_not_lose_a_result(db: Database, database_url: str, tenant: Tenant) -> None:
    """The 250 is given while the database throws everybody out: it is written all the same, once."""
    async with (
        SmtpSink(delay=0.1) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        ids = [(await queue(db, tenant, ["bob@there.test"]))[1][0] for _ in range(10)]
        admin = await asyncpg.connect(database_url)
        try:
            async with asyncio.timeout(20):
                while len(mx.messages) < 10:
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                    await asyncio.sleep(0.05)
        finally:
            await admin.close()
        found = await settled(db, ids)
    assert {(row["state"], row["attempts"]) for row in found} == {("delivered", 1)}
    assert len(mx.messages) == 10


async def test_stopping_gives_back_what_was_not_started(db: Database, tenant: Tenant) -> None:
    async with SmtpSink(silent="MAIL") as mx:
        worker = make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, command_timeout_seconds=60.0))
        await worker.start()
        ids = [(await queue(db, tenant, ["bob@there.test"]))[1][0] for _ in range(20)]
        async with asyncio.timeout(10):
            while not mx.commands:
                await asyncio.sleep(0.01)
        await worker.stop(grace=0.1)
    assert {(row["state"], row["attempts"]) for row in await rows(db, ids)} == {("queued", 0)}


async def test_stopping_while_a_host_has_the_message_says_that_it_may_come_twice(db: Database, tenant: Tenant) -> None:
    async with SmtpSink(silent="DOT") as mx:
        worker = make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, dot_timeout_seconds=60.0))
        await worker.start()
        _, ids = await queue(db, tenant, ["bob@there.test"])
        async with asyncio.timeout(10):
            while "DATA" not in mx.commands:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        await worker.stop(grace=0.1)
    assert [(row["state"], row["attempts"]) for row in await rows(db, ids)] == [("deferred", 1)]
    kind, detail = (await events_of(db, ids[0]))[-1]
    assert (kind, detail["possible_duplicate"]) == ("deferred", True)


async def test_an_operator_holds_releases_drops_and_retries(db: Database, tenant: Tenant) -> None:
    operator = OutboundQueue(db)
    _, ids = await queue(db, tenant, ["a@there.test", "b@there.test", "c@there.test"])
    held, dropped, kept = (str(one) for one in ids)
    assert await operator.hold([held]) == 1
    assert await operator.drop([dropped]) == 1
    assert [one["id"] for one in await operator.page(domain="there.test")] == [held, kept]
    async with SmtpSink() as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        await reached(db, ids[2:], "delivered")
        assert (await operator.show(held))["state"] == "held"
        assert await operator.release([held]) == 1
        await reached(db, ids[:1], "delivered")
    assert sorted(mx.recipients()) == ["a@there.test", "c@there.test"]
    assert (await operator.show(dropped))["state"] == "cancelled"
    shown = await operator.show(kept)
    assert [event["type"] for event in shown["events"]] == ["attempted", "delivered"]


async def test_a_paused_destination_waits_until_it_is_resumed(db: Database, tenant: Tenant) -> None:
    operator = OutboundQueue(db)
    await operator.pause("There.Test", "they asked us to")
    async with (
        SmtpSink() as mx,
        running(make_worker(db, mx_zone(["there.test", "other.test"]), make_settings(mx.port))),
    ):
        _, ids = await queue(db, tenant, ["a@there.test", "b@other.test"])
        await reached(db, ids[1:], "delivered")
        assert (await rows(db, ids))[0]["state"] == "queued"
        assert [(one["name"], one["pause_reason"]) for one in await operator.closed()] == [
            ("there.test", "they asked us to")
        ]
        await operator.resume("there.test")
        await reached(db, ids, "delivered")


REPLIES = (
    *("250 2.0.0 ok", "250 ok", "354 go", "220", "421 4.3.2 bye", "450 4.2.1 no", "451 later", "452 full", "500 what"),
    *("503 no", "550 5.1.1 nobody", "550 no", "552 5.2.2 full", "552 too much", "554 5.7.1 spam", "999 nonsense", ""),
)


@pytest.mark.parametrize("seed", range(4))
async def test_random_replies_never_break_the_state_table(db: Database, tenant: Tenant, seed: int) -> None:
    """Whatever a host says, each delivery ends, in a state that it may have come to, and is given up in time."""
    chance = random.Random(seed)

    def say(_argument: str) -> str | None:
        return chance.choice(REPLIES) if chance.random() < 0.4 else None

    stages = ("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "DOT", "RSET", "NORCPT", "QUIT")
    settings = {"command_timeout_seconds": 0.3, "dot_timeout_seconds": 0.3, "retry_schedule_seconds": [0.05] * 4}
    # All of it before the first reply: an address that bounced is suppressed, and what is queued later is not tried.
    ids = [one for _ in range(15) for one in (await queue(db, tenant, ["a@there.test", "b@there.test"]))[1]]
    async with (
        SmtpSink(replies=dict.fromkeys(stages, say)) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, **settings))),
    ):
        found = await settled(db, ids, seconds=60)
    assert {row["state"] for row in found} <= {State.DELIVERED, State.BOUNCED, State.EXPIRED}
    for row in found:
        assert row["lease_owner"] is None and 1 <= row["attempts"] <= 5
        last = (await events_of(db, row["id"]))[-1][0]
        assert last == ("delivered" if row["state"] == State.DELIVERED else "bounced")


async def test_an_idle_worker_asks_next_to_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two polls nothing is asked: with nothing to do, a claim is all there is."""
    claims: list[bool] = []
    worker = make_worker(db, {"x.test": {}}, make_settings(25, poll_seconds=60.0))
    claim = worker.outbound.claim

    async def counted() -> Claim | None:
        claims.append(True)
        return await claim()

    monkeypatch.setattr(worker.outbound, "claim", counted)
    async with running(worker):
        async with asyncio.timeout(30), db.connection() as conn:
            while not await conn.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN %'"
            ):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)  # whoever begins to listen may have missed something, and looks once more
        settled_down = len(claims)
        await asyncio.sleep(1.0)
    assert settled_down <= 4 and len(claims) == settled_down
