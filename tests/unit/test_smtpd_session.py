"""Sessions: what reaches the receiver, what its refusals become, and when a session is over."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from clawmail.base.errors import QuotaExceeded, StoreFull, StoreUnwell
from clawmail.core.envelope import Refused
from clawmail.smtpd.commands import content
from clawmail.smtpd.connection import HIGH_WATER
from clawmail.smtpd.session import COMMANDS_AT_ONCE
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door
from tests.support.wire import Wire


async def test_the_envelope_holds_what_was_said(tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.say("MAIL FROM:<A@Sender.Test> RET=HDRS ENVID=QQ+2B1"))[:3] == "250"
        wishes = "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;agent@example.test"
        assert (await client.say(f"RCPT TO:<agent@example.test> {wishes}"))[:3] == "250"
        assert (await client.say("RCPT TO:<Other@EXAMPLE.test>"))[:3] == "250"
        await client.say("DATA")
        client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")
        assert await client.reply() == "250 2.0.0 queued as q1"
        await client.close()
    (envelope,) = receiver.envelopes
    assert envelope.mail_from == "A@Sender.Test"
    assert (envelope.ret, envelope.envid) == ("HDRS", "QQ+1")
    assert [recipient.address for recipient in envelope.recipients] == ["agent@example.test", "Other@example.test"]
    assert envelope.recipients[0].notify == ("SUCCESS", "FAILURE")
    assert envelope.recipients[0].orcpt == "rfc822;agent@example.test"
    assert envelope.recipients[1].notify is None
    assert (envelope.helo, str(envelope.client_ip), envelope.protocol) == ("client.test", "127.0.0.1", "ESMTP")
    assert envelope.tls == ""
    assert not envelope.require_tls
    assert envelope.spf is not None
    # Asked once, though there were two recipients.
    assert receiver.checked == [("127.0.0.1", "A@Sender.Test", "client.test")]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_message_gives_way_while_it_comes_in(tmp_path: Path, *, chunked: bool) -> None:
    receiver = ScriptedReceiver()
    large = b"Subject: x\r\n\r\n" + b"a line of it\r\n" * (2 * content.LARGE_BYTES // 14)
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        for message in (b"Subject: small\r\n\r\n", large):
            before = receiver.rests
            await client.say("MAIL FROM:<>")
            await client.say("RCPT TO:<agent@example.test>")
            if chunked:
                client.send(b"BDAT %d LAST\r\n" % len(message) + message)
            else:
                await client.say("DATA")
                client.send(message + b".\r\n")
            assert (await client.reply())[:3] == "250"
            assert (receiver.rests > before) == (message is large)
        await client.close()
    assert receiver.envelopes[1].raw == large


@pytest.mark.parametrize(
    ("greeting", "parameters", "tls", "word"),
    [
        ("HELO", "", False, "SMTP"),
        ("EHLO", "", False, "ESMTP"),
        ("EHLO", " SMTPUTF8", False, "UTF8SMTP"),
        ("EHLO", " REQUIRETLS", True, "ESMTPS"),
        ("EHLO", " SMTPUTF8", True, "UTF8SMTPS"),
    ],
)
async def test_the_word_behind_with(tmp_path: Path, greeting: str, parameters: str, tls: bool, word: str) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        if tls:
            await client.starttls()
        await client.say(f"{greeting} client.test")
        assert (await client.say(f"MAIL FROM:<>{parameters}"))[:3] == "250"
        await client.say("RCPT TO:<agent@example.test>")
        await client.say("DATA")
        client.send(b".\r\n")
        assert (await client.reply())[:3] == "250"
        await client.close()
    (envelope,) = receiver.envelopes
    assert envelope.protocol == word
    assert envelope.tls.startswith("TLSv1.3 ") == tls
    assert envelope.require_tls == (parameters == " REQUIRETLS")
    assert envelope.raw == b""


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        (Refused(554, "5.4.6", "this message goes\r\nround in a loop"), "554 5.4.6 this message goes round in a loop"),
        (StoreUnwell("down"), "451 4.3.0 the store is not available, try again later"),
        (StoreFull("full"), "452 4.3.1 the store is full, try again later"),
        (QuotaExceeded("mailbox is full"), "552 5.2.2 mailbox is full"),
    ],
)
async def test_a_message_refused_is_over(tmp_path: Path, failure: Exception, reply: str) -> None:
    receiver = ScriptedReceiver(failure=failure)
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert await client.mail(b"Subject: x\r\n") == reply
        assert (await client.say("RCPT TO:<agent@example.test>")).startswith("503 5.5.1")
        receiver.failure = None
        assert await client.mail(b"Subject: x\r\n") == "250 2.0.0 queued as q1"
        await client.close()


async def test_a_fault_of_ours_is_temporary_and_ends_one_session_only(tmp_path: Path) -> None:
    receiver = ScriptedReceiver(failure=RuntimeError("a fault"))
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("421 4.3.0")
        assert await client.ended()
        receiver.failure = None
        other = await Client.connect(door.addresses[0])
        await other.hello()
        assert (await other.mail(b"Subject: x\r\n")).startswith("250")
        await other.close()
        await client.close()


async def test_what_waits_at_the_greeting_gives_an_early_talker_away(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        # Connected and sent in one go, while the loop that would accept it stands still.
        early = socket.create_connection(door.addresses[0])
        early.sendall(b"EHLO client.test\r\n")
        early.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=early)
        client = Client(reader, writer)
        assert (await client.reply()).startswith("554 5.5.1")
        assert await client.ended()
        await client.close()


async def test_a_message_is_stored_although_its_client_is_gone(tmp_path: Path) -> None:
    receiver, inside, leave = ScriptedReceiver(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        inside.set()
        await leave.wait()

    receiver.hold = hold
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        for command in ("MAIL FROM:<>", "RCPT TO:<agent@example.test>", "DATA"):
            await client.say(command)
        client.send(b"Subject: x\r\n.\r\n")
        await inside.wait()
        client.writer.transport.abort()
        await asyncio.sleep(0.05)
        leave.set()
        while door.sessions:
            await asyncio.sleep(0.01)
    assert len(receiver.envelopes) == 1


async def test_a_message_that_drips_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "SPEED_GRACE_SECONDS", 0.1)
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path, min_bytes_per_second=10_000), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        for command in ("MAIL FROM:<>", "RCPT TO:<agent@example.test>", "DATA"):
            await client.say(command)
        dripping = asyncio.create_task(client.reply())
        while not dripping.done():
            client.send(b"x")
            await asyncio.sleep(0.02)
        assert (await dripping).startswith("421 4.4.2")
        await client.close()
    assert receiver.envelopes == []


async def test_replies_to_a_client_that_does_not_read_are_bounded(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path, command_timeout_seconds=0.5), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await client.hello()
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # the client stops listening
        client.send(b"NOOP\r\n" * 200_000)
        while door.sessions:
            await asyncio.sleep(0.05)
        client.writer.transport.abort()


async def test_many_commands_at_hand_leave_others_their_turn(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        busy, other = await Client.connect(door.addresses[0]), await Client.connect(door.addresses[0])
        await busy.hello()
        await other.hello()
        count = COMMANDS_AT_ONCE * 20
        busy.send(b"NOOP\r\n" * count)
        assert (await other.say("NOOP")).startswith("250")
        for _ in range(count):
            assert (await busy.reply()).startswith("250")
        await busy.close()
        await other.close()


def test_input_of_a_busy_session_is_bounded(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    wire = Wire(loop, tmp_path)
    leave = asyncio.Event()
    wire.receiver.hold = leave.wait
    wire.send(b"EHLO a.test\r\n", b"MAIL FROM:<>\r\nRCPT TO:<agent@example.test>\r\nDATA\r\n", b"x\r\n.\r\n")
    sent = 0
    while not wire.transport.paused:
        wire.send(b"NOOP\r\n" * 1000)
        sent += 1000
        assert sent * 6 <= 2 * HIGH_WATER
    leave.set()
    # Read again as soon as the session has caught up, and nothing is lost.
    replies: list[str] = []
    while len(replies) < sent + 1:
        replies += wire.send(b"")
        wire.turn()
    assert replies[0].startswith("250 2.0.0 queued")
    assert not wire.transport.paused
    wire.end()
    loop.close()
