"""The notice of success that a sender asks for with NOTIFY=SUCCESS: sent to whom SPF has proved, and to nobody else."""

from __future__ import annotations

import email
import email.policy

import pytest

from clawmail.core import receipts
from clawmail.store.db import Database
from tests.support.receiving import a_receiver, hand_over
from tests.support.tenants import Tenant

ASKED = b"From: Ann <ann@asks.test>\r\nTo: agent@example.test\r\nSubject: Got it?\r\n\r\nA body.\r\n"
PROVING = {"asks.test": {"TXT": ["v=spf1 ip4:198.51.100.7 -all"]}}


async def queued(db: Database) -> list[tuple[str, str, bytes]]:
    """(envelope sender, recipient, bytes) of every delivery."""
    async with db.connection() as conn:
        rows = await conn.fetch(
            "SELECT d.envelope_from, d.recipient, m.raw FROM deliveries d JOIN messages m ON m.id = d.message_id"
        )
    return [(row["envelope_from"], row["recipient"], row["raw"]) for row in rows]


async def test_a_proved_sender_who_asks_is_told_of_success(db: Database, tenant: Tenant) -> None:
    receiver = a_receiver(db, PROVING)
    await hand_over(receiver, ASKED, mail_from="ann@asks.test", notify=("SUCCESS", "FAILURE"))
    ((sender, recipient, raw),) = await queued(db)
    assert (sender, recipient) == ("", "ann@asks.test")
    report = email.message_from_bytes(raw, policy=email.policy.default)
    assert report.get_content_type() == "multipart/report"
    _, status, returned = report.iter_parts()
    assert b"Action: delivered" in status.as_bytes()
    assert b"Original-Envelope-Id: ticket 7" in status.as_bytes()
    assert b"Got it?" in returned.as_bytes()
    assert b"A body." not in raw


@pytest.mark.parametrize(
    ("zone", "mail_from", "notify"),
    [
        pytest.param({}, "ann@asks.test", ("SUCCESS",), id="nobody proves the sender"),
        pytest.param(PROVING, "ann@asks.test", None, id="nobody asked"),
        pytest.param(PROVING, "ann@asks.test", ("FAILURE",), id="only failure was asked about"),
        pytest.param(PROVING, "", ("SUCCESS",), id="the null sender"),
    ],
)
async def test_nobody_else_is(
    db: Database, tenant: Tenant, zone: dict[str, dict[str, list[str]]], mail_from: str, notify: tuple[str, ...] | None
) -> None:
    await hand_over(a_receiver(db, zone), ASKED, mail_from=mail_from, notify=notify)
    assert await queued(db) == []


async def test_a_receipt_that_fails_does_not_make_the_sender_send_again(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object, **_named: object) -> bytes:
        raise KeyError("a fault of our own")

    monkeypatch.setattr(receipts, "write_dsn", fails)
    await hand_over(a_receiver(db, PROVING), ASKED, mail_from="ann@asks.test", notify=("SUCCESS",))
    assert await queued(db) == []
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM emails") == 1
