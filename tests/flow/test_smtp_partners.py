"""Real mail programs at our door: swaks, smtplib, aiosmtplib, nodemailer, smtp-source, and Postfix in both directions.

Those that Python does not bring are skipped where they are not installed; each skip says what to install.
"""

from __future__ import annotations

import asyncio
import base64
import smtplib
from collections.abc import AsyncIterator
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import aiosmtplib
import pytest

from clawmail.base.errors import Unauthenticated
from clawmail.base.ids import new_id
from clawmail.model.tenancy import Principal
from clawmail.net.content import Content
from clawmail.net.envelope import Envelope, RecipientLine
from clawmail.net.smtp_client import Timeouts, open_session
from clawmail.net.tls import Demand, Level, TlsContexts
from clawmail.smtpd.server import SmtpDoor
from tests.support import partners, postfix
from tests.support.smtp import ScriptedReceiver, door_settings, open_door, trusting

SENDER, INBOX, KEY = "a@sender.test", "agent@example.test", "cm_key"
#: dots, a long line, eight bits.
BODY = b"From: a@sender.test\r\nSubject: odd\r\n\r\n.one\r\n..\r\n" + b"x" * 3000 + b"\r\n\xc3\xbc\r\n.\r\nlast\r\n"

needs_swaks = pytest.mark.skipif(bool(partners.missing("swaks", "swaks")), reason=partners.missing("swaks", "swaks"))
needs_smtp_source = pytest.mark.skipif(
    bool(partners.missing("smtp-source", "postfix")), reason=partners.missing("smtp-source", "postfix")
)
needs_nodemailer = pytest.mark.skipif(bool(partners.missing_nodemailer()), reason=partners.missing_nodemailer())
needs_postfix = pytest.mark.skipif(bool(postfix.missing()), reason=postfix.missing())


class Doors:
    """A door with all three roles, and what came through it."""

    def __init__(self, door: SmtpDoor, receiver: ScriptedReceiver, submitted: list[tuple[bytes, list[str]]]) -> None:
        self.exchange, self.submission, self.submissions = (port for _, port in door.addresses)
        self.receiver = receiver
        self.submitted = submitted


@pytest.fixture
async def doors(tmp_path: Path) -> AsyncIterator[Doors]:
    """Ports of mail exchange, submission with STARTTLS and submission inside TLS."""
    submitted: list[tuple[bytes, list[str]]] = []

    async def access(address: str, key: str) -> Principal:
        if (address, key) != (INBOX, KEY):
            raise Unauthenticated("Invalid email or API key")
        return Principal("inbox", new_id(), new_id(), new_id(), "example.test", new_id(), INBOX)

    async def submit(_: Principal, raw: bytes, recipients: list[str], **options: object) -> SimpleNamespace:
        submitted.append((raw, recipients))
        return SimpleNamespace(id="m1")

    receiver, loopback = ScriptedReceiver(), ["127.0.0.1:0"]
    settings = door_settings(tmp_path, submission_listen=loopback, submissions_listen=loopback)
    async with open_door(settings, receiver, authenticate=access, submit=submit) as door:
        yield Doors(door, receiver, submitted)


# --- swaks ---------------------------------------------------------------------------------------------------------


@needs_swaks
@pytest.mark.parametrize("options", [[], ["--tls"], ["--pipeline"], ["--protocol", "SMTP"]], ids=" ".join)
async def test_swaks(doors: Doors, options: list[str]) -> None:
    server = ["--server", "127.0.0.1", "--port", str(doors.exchange)]
    status, said = await partners.run(
        "swaks", *server, "--from", SENDER, "--to", INBOX, "--ehlo", "client.test", "--body", ".a dot", *options
    )
    assert status == 0, said
    (envelope,) = doors.receiver.envelopes
    assert b"\r\n.a dot\r\n" in envelope.raw
    assert (envelope.mail_from, envelope.helo) == (SENDER, "client.test")
    assert bool(envelope.tls) == ("--tls" in options)


@needs_swaks
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("way", ["--tls", "--tls-on-connect"])
async def test_swaks_submits(doors: Doors, mechanism: str, way: str) -> None:
    port = doors.submission if way == "--tls" else doors.submissions
    status, said = await partners.run(
        *("swaks", "--server", "127.0.0.1", "--port", str(port), way, "--auth", mechanism),
        *("--auth-user", INBOX, "--auth-password", KEY, "--from", INBOX, "--to", "friend@elsewhere.test"),
    )
    assert status == 0, said
    assert doors.submitted[0][1] == ["friend@elsewhere.test"]


@needs_swaks
async def test_swaks_with_a_wrong_key(doors: Doors) -> None:
    status, said = await partners.run(
        *("swaks", "--server", "127.0.0.1", "--port", str(doors.submission), "--tls", "--auth", "PLAIN"),
        *("--auth-user", INBOX, "--auth-password", "cm_wrong", "--from", INBOX, "--to", "friend@elsewhere.test"),
    )
    assert status == 28, said  # swaks: "authentication failed"
    assert "535 5.7.8" in said
    assert doors.submitted == []


# --- Python --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_smtplib(doors: Doors, tls: bool) -> None:
    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP("127.0.0.1", doors.exchange, local_hostname="client.test", timeout=10) as client:
            if tls:
                client.starttls(context=trusting())
            refused = client.sendmail(
                SENDER, [INBOX, "unknown@example.test"], BODY, ["BODY=8BITMIME", "RET=FULL"], ["NOTIFY=NEVER"]
            )
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                client.sendmail(SENDER, ["x@elsewhere.test"], BODY)
            client.sendmail(SENDER, [INBOX], BODY)
            assert client.verify("agent")[0] == 252
            return refused

    refused = await asyncio.to_thread(send)
    assert refused == {"unknown@example.test": (550, b"5.1.1 no such mailbox")}
    assert [envelope.raw for envelope in doors.receiver.envelopes] == [BODY, BODY]
    assert doors.receiver.envelopes[0].recipients[0].notify == ("NEVER",)
    assert bool(doors.receiver.envelopes[0].tls) is tls


async def test_smtplib_submits(doors: Doors) -> None:
    def send() -> None:
        with smtplib.SMTP_SSL("127.0.0.1", doors.submissions, context=trusting(), timeout=10) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError, match=r"5\.7\.8"):
                client.login(INBOX, "cm_wrong")
            client.login(INBOX, KEY)
            client.sendmail(INBOX, ["friend@elsewhere.test"], BODY.replace(b"a@sender.test", INBOX.encode()))

    await asyncio.to_thread(send)
    assert len(doors.submitted) == 1


@pytest.mark.parametrize("tls", [False, True])
async def test_aiosmtplib(doors: Doors, tls: bool) -> None:
    client = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=doors.exchange, start_tls=tls, tls_context=trusting() if tls else None
    )
    async with client:
        await client.ehlo()
        assert client.supports_extension("smtputf8")
        _, reply = await client.sendmail("jürgen@sender.test", ["jörg@example.test"], BODY, mail_options=["SMTPUTF8"])
        assert reply.startswith("2.0.0 queued as")
        for _ in range(3):
            await client.sendmail("", [INBOX], BODY)
    assert [envelope.raw for envelope in doors.receiver.envelopes] == [BODY] * 4
    first = doors.receiver.envelopes[0]
    assert (first.mail_from, first.recipients[0].address) == ("jürgen@sender.test", "jörg@example.test")
    assert first.protocol == ("UTF8SMTPS" if tls else "UTF8SMTP")
    assert doors.receiver.envelopes[1].mail_from == ""


# --- nodemailer ----------------------------------------------------------------------------------------------------


@needs_nodemailer
@pytest.mark.parametrize("pool", [False, True])
async def test_nodemailer(doors: Doors, pool: bool) -> None:
    transport = {"host": "127.0.0.1", "port": doors.exchange, "tls": {"rejectUnauthorized": False}, "pool": pool}
    envelope = {"from": SENDER, "to": [INBOX]}
    raw = {"envelope": envelope, "raw64": base64.b64encode(BODY).decode()}
    dsn = {"id": "id1", "return": "headers", "notify": ["failure"], "recipient": SENDER}
    composed = {"from": SENDER, "to": INBOX, "subject": "Grüße", "text": ".dot\n..", "html": "<p>x</p>", "dsn": dsn}
    status, replies = await partners.nodemailer(transport, raw, composed)
    assert status == 0, replies
    assert [reply[:9] for reply in replies] == ["250 2.0.0"] * 2
    first, second = doors.receiver.envelopes
    assert first.raw == BODY
    assert first.tls.startswith("TLSv1.")
    assert (second.ret, second.envid) == ("HDRS", "id1")
    assert second.recipients[0].notify == ("FAILURE",)
    assert second.recipients[0].orcpt == f"rfc822;{SENDER}"


@needs_nodemailer
async def test_nodemailer_submits(doors: Doors) -> None:
    transport = {
        "host": "127.0.0.1",
        "port": doors.submissions,
        "secure": True,
        "auth": {"user": INBOX, "pass": KEY},
        "tls": {"rejectUnauthorized": False},
    }
    status, replies = await partners.nodemailer(
        transport, {"from": INBOX, "to": "friend@elsewhere.test", "subject": "x", "text": "y"}
    )
    assert (status, replies) == (0, ["250 2.0.0 queued as m1"])


# --- Postfix -------------------------------------------------------------------------------------------------------


@needs_smtp_source
@pytest.mark.parametrize("options", [[], ["-d"], ["-N", "-r", "5"]], ids=["connection each", "kept", "5 recipients"])
async def test_smtp_source(doors: Doors, options: list[str]) -> None:
    status, said = await partners.run(
        *("smtp-source", "-s", "5", "-m", "50", "-l", "5120", "-f", SENDER, "-t", INBOX),
        *(*options, f"127.0.0.1:{doors.exchange}"),
    )
    assert (status, said) == (0, "")
    assert len(doors.receiver.envelopes) == 50
    recipients = 5 if "-r" in options else 1
    assert {len(envelope.recipients) for envelope in doors.receiver.envelopes} == {recipients}


@needs_postfix
async def test_postfix_relays_to_us(doors: Doors) -> None:
    async with postfix.run_postfix({"example.test": f"smtp:[127.0.0.1]:{doors.exchange}"}) as relay:

        def send() -> None:
            with smtplib.SMTP("127.0.0.1", relay.port, timeout=10) as client:
                client.sendmail(
                    SENDER, [INBOX, "other@example.test"], BODY, ["RET=HDRS", "ENVID=id1"], ["NOTIFY=SUCCESS,FAILURE"]
                )
                client.sendmail(SENDER, ["unknown@example.test"], BODY)
                client.sendmail(SENDER, [INBOX], BODY.replace(b"odd", b"big") + b"y" * 2_000_000)

        await asyncio.to_thread(send)
        await relay.logged("unknown@example.test", "status=bounced", "550 5.1.1 no such mailbox")
        async with asyncio.timeout(postfix.PATIENCE_SECONDS):
            while len(doors.receiver.envelopes) < 2:
                await asyncio.sleep(0.05)
    small, large = sorted(doors.receiver.envelopes, key=lambda envelope: len(envelope.raw))
    # Postfix puts trace fields on top and wraps lines of more than 998 octets; the rest is what was sent.
    assert small.raw.endswith(b"\r\n\xc3\xbc\r\n.\r\nlast\r\n")
    assert b"\r\n.one\r\n..\r\n" in small.raw
    assert {recipient.address for recipient in small.recipients} == {INBOX, "other@example.test"}
    assert (small.ret, small.envid, small.helo) == ("HDRS", "id1", "relay.sender.test")
    assert small.recipients[0].notify == ("SUCCESS", "FAILURE")
    assert small.tls.startswith("TLSv1.3")
    assert large.raw.count(b"y") >= 2_000_000


@needs_postfix
async def test_we_relay_to_postfix() -> None:
    async with postfix.run_postfix({"elsewhere.test": "discard:"}) as relay:
        session = await open_session(
            [IPv4Address("127.0.0.1")],
            "relay.sender.test",
            port=relay.port,
            ehlo_name="mx.example.test",
            demand=Demand(Level.MAY),
            contexts=TlsContexts(),
            timeouts=Timeouts(),
        )
        recipients = (RecipientLine("friend@elsewhere.test", ("NEVER",)), RecipientLine("x@nowhere.test"))
        outcome = await session.deliver(Envelope(INBOX, recipients), Content(BODY))
        await session.quit()
        assert outcome[0][1].code == 250
        assert await relay.logged("to=<friend@elsewhere.test>", "relay=none", "status=sent")
