"""What a sender is told of his mail, and in whose words: a host's only where a host spoke (RFC 3464 section 2.3)."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email.message import Message
from ipaddress import ip_address
from typing import Any

import pytest

from clawmail.core.outbound.local import LocalCarrier
from clawmail.store.db import Database
from tests.support.outgoing import inbound, make_settings, make_worker, mx_zone, queue, running, settled
from tests.support.receiving import a_receiver
from tests.support.smtp_sink import SmtpSink
from tests.support.tenants import Tenant, add_inbox

BOB = "bob@there.test"


def parts(report: Any) -> tuple[str, Message]:
    """The text for people, on one line, and the fields about the one recipient."""
    message = email.message_from_bytes(report["raw"])
    fields = next(part for part in message.walk() if part["Final-Recipient"])
    return " ".join(report["body_text"].split()), fields


def local(db: Database) -> LocalCarrier:
    """Carries mail for example.test in the house."""

    async def is_ours(name: str) -> bool:
        return name == "example.test"

    return LocalCarrier(
        db,
        a_receiver(db, {}),
        is_ours,
        hostname="mail.example.test",
        address=ip_address("192.0.2.1"),
        clock=lambda: datetime.now(UTC),
    )


async def test_a_refusal_is_quoted_with_the_host_that_gave_it(db: Database, tenant: Tenant) -> None:
    async with (
        SmtpSink(replies={"RCPT": "550 5.1.1 no such user"}) as mx,
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))),
    ):
        await queue(db, tenant, [BOB])
        text, fields = parts(await inbound(db, tenant))
    assert "mx.there.test said: 550 5.1.1 no such user" in text
    assert fields["Remote-MTA"] == "dns; mx.there.test"
    assert fields["Diagnostic-Code"] == "smtp; 550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("zone", "happened"),
    [
        pytest.param({"else.test": {"A": ["192.0.2.1"]}}, "there.test has no address", id="no host"),
        pytest.param({"there.test": {"MX": ["0 ."]}}, "there.test takes no mail (null MX)", id="null MX"),
        pytest.param(mx_zone(["there.test"], "127.0.0.77"), "connecting to mx.there.test:", id="nobody answers"),
    ],
)
async def test_where_no_host_spoke_the_words_are_ours(
    db: Database, tenant: Tenant, zone: dict[str, dict[str, list[str]]], happened: str
) -> None:
    async with SmtpSink() as mx, running(make_worker(db, zone, make_settings(mx.port))):
        await queue(db, tenant, [BOB])
        text, fields = parts(await inbound(db, tenant))
    assert f"What happened: {happened}" in text and " said: " not in text
    assert fields["Remote-MTA"] is None
    assert fields["Diagnostic-Code"].startswith("x-clawmail; ") and happened.split()[-1] in fields["Diagnostic-Code"]


async def test_success_in_the_house_is_delivered_and_at_other_hosts_relayed(db: Database, tenant: Tenant) -> None:
    """RFC 3461 section 5.2.3: only the last host knows that it was delivered."""
    await add_inbox(db, tenant.domain, "carol")
    wishes = {"notify": "SUCCESS"}
    async with (
        SmtpSink(extensions=("PIPELINING",)) as mx,  # no DSN: nobody else will tell
        running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port), local=local(db))),
    ):
        await settled(db, (await queue(db, tenant, ["carol@example.test"], options=wishes))[1])
        text, fields = parts(await inbound(db, tenant))
        assert (fields["Action"], fields["Status"], fields["Remote-MTA"]) == ("delivered", "2.1.5", None)
        assert "Your message was delivered to: carol@example.test" in text
        async with db.transaction() as conn:
            await conn.execute("DELETE FROM emails WHERE inbox_id = $1 AND direction = 'inbound'", tenant.inbox.id)
        await settled(db, (await queue(db, tenant, [BOB], options=wishes))[1])
        text, fields = parts(await inbound(db, tenant))
    assert (fields["Action"], fields["Status"], fields["Remote-MTA"]) == ("relayed", "2.0.0", "dns; mx.there.test")


async def test_a_refusal_in_the_house_is_nobody_elses(db: Database, tenant: Tenant) -> None:
    await add_inbox(db, tenant.domain, "full", quota=1)
    async with running(make_worker(db, {}, make_settings(25), local=local(db))):
        (row,) = await settled(db, (await queue(db, tenant, ["full@example.test"]))[1])
        _, fields = parts(await inbound(db, tenant))
    assert (row["state"], row["last_reply_by"]) == ("bounced", "house")
    assert fields["Remote-MTA"] is None and fields["Diagnostic-Code"] == f"x-clawmail; {row['last_reply']}"
