"""From a committed row to another host's 250, on a real database and a scripted MX."""

from __future__ import annotations

import asyncio
import email
from datetime import UTC, datetime

from clawmail.net.resolver import DnsResolver
from clawmail.store import suppressions
from clawmail.store.db import Database
from tests.support.dns_server import DnsServer
from tests.support.outgoing import (
    MESSAGE,
    events_of,
    inbound,
    make_settings,
    make_worker,
    mx_zone,
    queue,
    running,
    settled,
    thread_of,
)
from tests.support.smtp_sink import SmtpSink
from tests.support.tenants import Tenant


async def test_a_queued_message_arrives_as_it_is(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["bob@there.test"])
    async with SmtpSink() as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        (row,) = await settled(db, ids)
    assert (row["state"], row["attempts"], row["last_host"]) == ("delivered", 1, "mx.there.test")
    assert row["last_reply"] == "250 2.0.0 taken"
    assert mx.bodies() == [MESSAGE]
    assert mx.messages[0].mail_from == "agent@example.test"
    assert f"SIZE={len(MESSAGE)}" in mx.messages[0].mail_parameters
    kinds = [kind for kind, _ in await events_of(db, ids[0])]
    assert kinds == ["attempted", "delivered"]


async def test_recipients_of_one_message_share_a_transaction(db: Database, tenant: Tenant) -> None:
    recipients = [f"r{number}@there.test" for number in range(30)]
    _, ids = await queue(db, tenant, recipients)
    async with SmtpSink() as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        found = await settled(db, ids)
    assert {row["state"] for row in found} == {"delivered"}
    assert len(mx.messages) == 1
    assert sorted(mx.messages[0].recipients) == sorted(recipients)


async def test_each_recipient_gets_the_reply_that_was_his(db: Database, tenant: Tenant) -> None:
    replies = {"RCPT": lambda argument: "550 5.1.1 no such user" if "nobody" in argument else None}
    _, ids = await queue(db, tenant, ["bob@there.test", "nobody@there.test"])
    async with (
        SmtpSink(replies=replies) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        bob, nobody = await settled(db, ids)
    assert (bob["state"], nobody["state"]) == ("delivered", "bounced")
    assert nobody["last_reply"] == "550 5.1.1 no such user"
    assert mx.recipients() == ["bob@there.test"]


async def test_a_failure_is_told_in_the_senders_inbox(db: Database, tenant: Tenant) -> None:
    email_id, ids = await queue(db, tenant, ["nobody@there.test"])
    async with (
        SmtpSink(replies={"RCPT": "550 5.1.1 no such user"}) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        await settled(db, ids)
        bounce = await inbound(db, tenant)
    assert bounce["envelope_from"] == "" and bounce["from_address"] == "MAILER-DAEMON@mail.example.test"
    assert bounce["thread_id"] == await thread_of(db, email_id)
    report = email.message_from_bytes(bounce["raw"])
    assert report.get_content_type() == "multipart/report"
    fields = next(part for part in report.walk() if part["Final-Recipient"])
    assert fields["Final-Recipient"].replace(" ", "") == "rfc822;nobody@there.test"
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    async with db.connection() as conn:
        assert await suppressions.get(conn, tenant.domain.id, "Nobody@there.test", datetime.now(UTC))


async def test_the_way_is_found_in_the_real_dns(db: Database, tenant: Tenant) -> None:
    """Names on the wire, an alias on the way, and a first host without an address."""
    async with SmtpSink() as mx:
        zone = {
            "xn--bcher-kva.test": {"MX": ["10 nobody.test", "20 alias.test"]},
            "alias.test": {"CNAME": ["mx.test"]},
            "mx.test": {"A": ["127.0.0.1"]},
        }
        async with DnsServer(zone) as dns:
            resolver = DnsResolver([dns.nameserver], timeout_seconds=5)
            async with running(make_worker(db, resolver, make_settings(mx.port))):
                (row,) = await settled(db, (await queue(db, tenant, ["bob@xn--bcher-kva.test"]))[1])
            await resolver.close()
    assert (row["state"], row["last_host"]) == ("delivered", "alias.test")
    told = [detail["reply"] for kind, detail in await events_of(db, row["id"]) if kind == "attempted"]
    assert told == ["550 5.4.4 nobody.test has no address", "250 2.0.0 taken"]


async def test_a_delay_is_told_once(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["bob@there.test"])
    settings = {"retry_schedule_seconds": [1.0, 0.1, 0.1], "delay_notice_seconds": 1}
    async with (
        SmtpSink(replies={"RCPT": "450 4.2.1 busy"}) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port, **settings))),
    ):
        await settled(db, ids)
        async with asyncio.timeout(10):
            while True:
                async with db.connection() as conn:
                    found = await conn.fetch("SELECT subject FROM messages WHERE envelope_from = '' ORDER BY id")
                if len(found) >= 2:
                    break
                await asyncio.sleep(0.02)
    assert [row["subject"] for row in found] == ["Delayed: hello", "Undelivered: hello"]
