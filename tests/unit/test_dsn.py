"""Reports we write, read back by the standard library and by ourselves; and what a failure means."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import Message

import pytest

from clawmail.protocol.dsn import (
    BounceRecipient,
    DsnRecipient,
    DsnRequest,
    is_hard,
    read_bounce,
    read_unnamed_bounce,
    write_dsn,
)
from clawmail.protocol.dsn.status import meaning, status_of
from clawmail.protocol.dsn.write import MAX_UNASKED_OCTETS
from clawmail.protocol.mime.parse import attachment_content, parse_message

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
ORIGINAL = (
    b"Message-ID: <1@ours.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nFrom: ann@ours.example\r\n\r\nhello\r\n"
)
REQUEST = DsnRequest("ann@ours.example", ORIGINAL, NOW)
FAILED = DsnRecipient(
    final="bob@example.com",
    action="failed",
    status="5.1.1",
    reply="550 5.1.1 <bob@example.com>: Recipient address rejected: User unknown in virtual mailbox table",
    remote_host="mx.example.com",
    original="rfc822;bob@example.com",
    last_attempt=NOW,
)


def write(request: DsnRequest, *recipients: DsnRecipient) -> bytes:
    raw = write_dsn(request, recipients, reporting_host="mx.ours.example", message_id="<d@ours.example>", now=NOW)
    assert raw is not None
    assert b"\n" not in raw.replace(b"\r\n", b"")
    return raw


def test_a_person_understands_it() -> None:
    message = parse_message(write(REQUEST, FAILED))
    assert message.subject == "Undelivered: Grüße"
    assert message.in_reply_to == "<1@ours.example>"
    assert message.text is not None
    text = " ".join(message.text.split())
    assert "could not be delivered to: bob@example.com Why: there is no such mailbox (5.1.1)." in text
    assert "mx.example.com said: 550 5.1.1 <bob@example.com>: Recipient address rejected" in text
    assert "What to do: Check the address" in text
    assert "Subject: Grüße" in text
    assert max(map(len, message.text.split("\n"))) <= 90


def test_a_program_understands_it() -> None:
    request = replace(REQUEST, envelope_id="QQ314159")
    message = email.message_from_bytes(write(request, FAILED), policy=email.policy.default)
    assert not message.defects
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["Auto-Submitted"] == "auto-replied"
    human, status, returned = message.iter_parts()
    assert human.get_content_type() == "text/plain"
    assert returned.get_content_type() == "message/rfc822"
    groups = status.get_payload()
    assert isinstance(groups, list)
    about_message, about_bob = (group for group in groups if isinstance(group, Message))
    assert about_message["Reporting-MTA"] == "dns; mx.ours.example"
    assert about_message["Original-Envelope-Id"] == "QQ314159"
    assert about_bob["Original-Recipient"] == "rfc822;bob@example.com"
    assert about_bob["Final-Recipient"] == "rfc822; bob@example.com"
    assert (about_bob["Action"], about_bob["Status"]) == ("failed", "5.1.1")
    assert about_bob["Remote-MTA"] == "dns; mx.example.com"
    assert about_bob["Diagnostic-Code"] == f"smtp; {FAILED.reply}"


def test_words_of_ours_are_nobody_elses() -> None:
    ours = replace(FAILED, reply="550 5.4.4 gone.example has no address", status="5.4.4", remote_host="")
    raw = write(REQUEST, ours)
    assert "What happened: gone.example has no address" in " ".join((parse_message(raw).text or "").split())
    fields = next(part for part in email.message_from_bytes(raw).walk() if part["Final-Recipient"])
    assert fields["Remote-MTA"] is None
    assert fields["Diagnostic-Code"] == "x-clawmail; 550 5.4.4 gone.example has no address"


def test_we_read_what_we_write() -> None:
    delayed = DsnRecipient("cy@example.com", "delayed", "4.4.1", "connection timed out", retry_until=NOW)
    delivered = DsnRecipient("di@example.com", "delivered", "2.0.0")
    assert read_bounce(write(REQUEST, FAILED, delayed, delivered)) == (
        BounceRecipient("bob@example.com", "5.1.1", "failed", True, FAILED.reply),
        BounceRecipient("cy@example.com", "4.4.1", "delayed", False, "connection timed out"),
    )
    assert read_bounce(write(REQUEST, delivered)) is None
    assert parse_message(write(REQUEST, delivered)).subject == "Delivered: Grüße"
    assert parse_message(write(REQUEST, delayed)).subject == "Delayed: Grüße"
    assert parse_message(write(REQUEST, replace(delivered, action="relayed"))).subject == "Passed on: Grüße"


UNNAMED = b"From: MAILER-DAEMON@far.example\r\nSubject: %s\r\n\r\nIt did not work.\r\n%s\r\n"


def test_a_refusal_is_read_where_nobody_is_named() -> None:
    raw = UNNAMED % (b"Undeliverable", b"550 5.2.2 mailbox full")
    assert read_bounce(raw) is None
    found = read_unnamed_bounce(raw)
    assert found is not None
    assert (found.recipient, found.status, found.action, found.hard) == ("", "5.2.2", "failed", False)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"Undeliverable", b"I am sorry."),
        (b"Undeliverable", b"450 4.2.0 come back later"),
        (b"Delivery delayed", b"550 5.1.1 no such user; it will be retried"),
        (b"Out of office", b"550 5.1.1 no such user"),
        (b"Re: Undeliverable", b"What does this mean?\r\n-- original message\r\n550 5.1.1 no such user"),
        (b"Undeliverable", b"---- Below this line is a copy of the message.\r\n\r\n550 5.1.1 no such user"),
    ],
    ids=["no code", "for now", "a delay", "absence", "an answer", "in the copy"],
)
def test_nothing_else_is_guessed(subject: bytes, text: bytes) -> None:
    raw = UNNAMED % (subject, text)
    if subject.startswith(b"Re:"):
        raw = raw.replace(b"MAILER-DAEMON", b"ann")
    assert read_unnamed_bounce(raw) is None


def test_nobody_is_told_of_a_report_that_failed() -> None:
    for sender in ("", "<>"):
        request = replace(REQUEST, sender=sender)
        assert write_dsn(request, [FAILED], reporting_host="mx", message_id="<d@x>", now=NOW) is None
    assert write_dsn(REQUEST, [], reporting_host="mx", message_id="<d@x>", now=NOW) is None


def returned(raw: bytes) -> tuple[str, bytes]:
    part = parse_message(raw).attachments[-1]
    content = attachment_content(raw, part.index)
    assert content is not None
    return part.content_type, content


def test_as_much_is_returned_as_was_asked_for() -> None:
    header = ORIGINAL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    large = ORIGINAL + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * (MAX_UNASKED_OCTETS // 72)
    delayed = DsnRecipient("cy@example.com", "delayed", "4.4.1")
    assert returned(write(REQUEST, FAILED)) == ("message/rfc822", ORIGINAL)
    assert returned(write(replace(REQUEST, ret="HDRS"), FAILED)) == ("text/rfc822-headers", header)
    assert returned(write(replace(REQUEST, original=large), FAILED)) == ("text/rfc822-headers", header)
    assert returned(write(replace(REQUEST, original=large, ret="full"), FAILED)) == ("message/rfc822", large)
    assert returned(write(replace(REQUEST, ret="FULL"), delayed)) == ("text/rfc822-headers", header)


def test_an_internationalised_report() -> None:
    original = "Subject: Grüße\r\nFrom: jörg@ours.example\r\n\r\nhällo\r\n".encode()
    request = replace(REQUEST, sender="jörg@ours.example", original=original)
    failed = replace(FAILED, final="zoë@example.com", original="")
    raw = write(request, failed)
    kinds = [part.content_type for part in parse_message(raw).attachments]
    assert kinds == ["message/global-delivery-status", "message/global"]
    bounce = read_bounce(raw)
    assert bounce is not None
    assert bounce[0].recipient == "zoë@example.com"
    assert returned(write(replace(request, ret="HDRS"), failed))[0] == "message/global-headers"


def test_a_hostile_reply_cannot_forge_a_recipient() -> None:
    reply = (
        "550 no\r\n\r\nFinal-Recipient: rfc822; victim@example.com\r\nAction: failed\r\nStatus: 5.1.1 " + "x" * 3_000
    )
    raw = write(REQUEST, replace(FAILED, reply=reply))
    bounce = read_bounce(raw)
    assert bounce is not None
    assert [failed.recipient for failed in bounce] == ["bob@example.com"]
    assert max(map(len, raw.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    ("status", "reason", "hard"),
    [
        ("5.1.1", "", True),
        ("5.1.2", "", True),
        ("5.1.3", "", True),
        ("5.1.6", "", True),
        ("5.1.10", "", True),
        ("5.4.4", "", True),
        ("5.2.1", "550 5.2.1 mailbox disabled", False),
        ("5.2.2", "user unknown", False),
        ("5.3.4", "", False),
        ("5.4.6", "", False),
        ("5.7.1", "550 5.7.1 relaying denied", False),
        ("5.7.1", "550 5.7.1 no such user", True),
        ("5.7.26", "user unknown", False),
        ("4.1.1", "user unknown", False),
        ("", "550 user unknown", True),
        ("", "450 user unknown", False),
        ("5.0.0", "551 user not local", True),
        ("5.0.0", "521 host does not accept mail", True),
        ("5.0.0", "550 5.1.1 gone", True),
        ("5.0.0", "550 mailbox for bob is full, user over quota", False),
        ("5.0.0", "550 something else", False),
        ("5.4.1", "550 5.4.1 Recipient address rejected: Access denied", True),
        ("5.4.1", "550 5.4.1 no answer from host", False),
        ("5.2.1", "550 5.2.1 <bob@example.com>... User Unknown", True),
        ("5.7.27", "550 5.7.27 Host does not accept mail", True),
        ("5.3.2", "521 5.3.2 system not accepting network messages", True),
        ("5.2.1", "521 5.2.1 we will not accept delivery of this message", False),
        ("5.7.1", "521-5.7.1 service unavailable; client blocked", False),
        ("5.7.1", "551 5.7.1 delivery not authorized", False),
        ("5.0.0", "551 access forbidden by invalid RDNS record", False),
        ("5.1.1", "552 5.2.2 over quota", False),
        ("5.1.1", "550 5.7.1 address blacklisted by recipient", False),
        ("5.1.2", "name service error: Host not found, try again", False),
        ("5.0.0", "550 User unknown 421 Deferred: connection timed out", True),
        ("5.7.1", "550 Sender address rejected: Domain not found", False),
        ("5.0.0", "an MX or SRV record indicated no SMTP service", True),
        ("2.0.0", "", False),
    ],
)
def test_what_is_hard(status: str, reason: str, hard: bool) -> None:
    assert is_hard(status, reason) is hard


def test_a_status_is_made_from_words() -> None:
    assert status_of("550-5.7.26 no") == "5.7.26"
    assert status_of("connect to 5.1.1.5 failed") == "5.0.0", "an address is no status"
    assert status_of("452 mailbox full") == "4.2.2"
    assert status_of("unknown host example.org") == "5.1.2"
    assert status_of("556 no mail here") == "5.1.10"
    assert meaning("5.1.1") == "there is no such mailbox"
    assert meaning("5.1.77") == "there is a problem with the address"
    assert meaning("nonsense") == ""
