"""One conversation with a scripted MX: what is sent, in which order, and which reply belongs to whom."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.model.attempt import Stage
from clawmail.net.content import BLOCK_OCTETS, Content
from clawmail.net.envelope import Capabilities, Envelope, RecipientLine, impossible, mail_command, rcpt_command, xtext
from clawmail.net.smtp_client import Session, SessionEnded, Timeouts, open_session
from clawmail.net.tls import Demand, Level, TlsContexts
from clawmail.protocol.replies import ReplyReader
from tests.support.smtp_sink import SmtpSink

CONTEXTS = TlsContexts()
RAW = b"Subject: hello\r\n\r\n.one\r\n..two\r\n.\r\nend\r\n"


async def session_with(mx: SmtpSink) -> Session:
    return await open_session(
        [ip_address(mx.host)],
        "mx.there.test",
        port=mx.port,
        ehlo_name="mail.example.test",
        demand=Demand(Level.NEVER),
        contexts=CONTEXTS,
        timeouts=Timeouts(connect=2, greeting=2, command=2, data=2, block=2, dot=2, quit=1),
    )


def envelope(*recipients: str, **more: object) -> Envelope:
    return Envelope("a@example.test", tuple(RecipientLine(one) for one in recipients), **more)  # type: ignore[arg-type]  # keywords of the class


async def deliver(mx: SmtpSink, *recipients: str, raw: bytes = RAW) -> list[tuple[Stage, str]]:
    session = await session_with(mx)
    try:
        return [(stage, str(reply)) for stage, reply in await session.deliver(envelope(*recipients), Content(raw))]
    finally:
        await session.quit()


@pytest.mark.parametrize("extensions", [("PIPELINING",), ("CHUNKING",), ("PIPELINING", "CHUNKING", "SIZE"), ()])
async def test_the_message_arrives_unchanged_whatever_the_host_offers(extensions: tuple[str, ...]) -> None:
    async with SmtpSink(extensions=extensions) as mx:
        assert await deliver(mx, "b@there.test") == [(Stage.DOT, "250 2.0.0 taken")]
    assert mx.bodies() == [RAW]
    assert any(command.startswith("BDAT") for command in mx.commands) == ("CHUNKING" in extensions)


@pytest.mark.parametrize("extensions", [("PIPELINING",), ("PIPELINING", "CHUNKING"), ()])
async def test_each_recipient_has_his_reply(extensions: tuple[str, ...]) -> None:
    replies = {"RCPT": lambda argument: "550 5.1.1 no" if "no@" in argument else None}
    async with SmtpSink(extensions=extensions, replies=replies) as mx:
        results = await deliver(mx, "no@there.test", "yes@there.test", "no@there.test")
    assert results == [(Stage.RCPT, "550 5.1.1 no"), (Stage.DOT, "250 2.0.0 taken"), (Stage.RCPT, "550 5.1.1 no")]
    assert mx.recipients() == ["yes@there.test"]


REFUSALS = {"MAIL": "550 5.7.1 not you", "RCPT": "450 4.2.1 later", "DATA": "451 4.3.0 no", "DOT": "554 5.6.0 bad"}


@pytest.mark.parametrize(
    ("extensions", "stage", "reply"),
    [
        (extensions, stage, reply)
        for extensions in [("PIPELINING",), ("PIPELINING", "CHUNKING"), ()]
        for stage, reply in REFUSALS.items()
        if not (stage == "DATA" and "CHUNKING" in extensions)  # BDAT has no go-ahead that could be refused
    ],
)
async def test_after_a_refusal_the_next_message_goes(extensions: tuple[str, ...], stage: str, reply: str) -> None:
    refused = iter([reply])
    async with SmtpSink(extensions=extensions, replies={stage: lambda _argument: next(refused, None)}) as mx:
        session = await session_with(mx)
        ((where, said),) = await session.deliver(envelope("b@there.test"), Content(RAW))
        assert (where.value, str(said)) == (stage.lower(), reply)
        assert session.usable
        ((where, said),) = await session.deliver(envelope("b@there.test"), Content(RAW))
        assert (where, said.code) == (Stage.DOT, 250)
        await session.quit()
    assert mx.bodies() == [RAW]


async def test_a_data_that_went_through_without_recipients_is_ended_with_a_lone_dot() -> None:
    """RFC 2920 section 3.1: a host may say 354 though it refused everybody."""
    async with SmtpSink(extensions=("PIPELINING",), replies={"RCPT": "550 no", "NORCPT": "354 go on"}) as mx:
        assert await deliver(mx, "b@there.test") == [(Stage.RCPT, "550 no")]
    assert mx.messages == []


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "AFTER DOT"])
async def test_a_host_that_hangs_up_is_said_to_have_done_so(stage: str) -> None:
    async with SmtpSink(extensions=(), hang_up=stage) as mx:
        with pytest.raises(SessionEnded) as ended:
            await deliver(mx, "b@there.test")
    expected = {"CONNECT": Stage.GREETING, "AFTER DOT": Stage.DOT}
    assert ended.value.stage == expected.get(stage) or ended.value.stage.value == stage.lower()
    assert ended.value.reply.ours and ended.value.reply.code == 451


async def test_a_421_in_the_middle_is_the_reason_given() -> None:
    async with SmtpSink(replies={"MAIL": "421 4.3.2 shutting down"}) as mx:
        with pytest.raises(SessionEnded) as ended:
            await deliver(mx, "b@there.test")
    assert str(ended.value.reply) == "421 4.3.2 shutting down"


async def test_an_old_host_gets_helo() -> None:
    async with SmtpSink(replies={"EHLO": "502 what?"}) as mx:
        assert await deliver(mx, "b@there.test") == [(Stage.DOT, "250 2.0.0 taken")]
    assert mx.commands[1] == "HELO mail.example.test"


async def test_a_silent_host_is_given_up() -> None:
    async with SmtpSink(silent="MAIL") as mx:
        with pytest.raises(SessionEnded, match="no reply within 2 s"):
            await deliver(mx, "b@there.test")


def raw_of_blocks(filler: bytes) -> bytes:
    """A message of several blocks with dots and bare line ends wherever a block might be cut."""
    return b"".join(filler * (BLOCK_OCTETS // len(filler) - 3 + n) + b"\r\n.\r\n..x" for n in range(8))


@pytest.mark.parametrize(
    "raw", [raw_of_blocks(b"x"), raw_of_blocks(b"\r\n"), raw_of_blocks(b".\r\n"), b"x" * BLOCK_OCTETS * 3]
)
def test_large_messages_are_looked_at_in_blocks_and_sent_as_one(raw: bytes) -> None:
    content = Content(raw).prepared()
    assert content.raw == (raw if raw.endswith(b"\r\n") else raw + b"\r\n")
    assert content.stuffed == (b"\r\n" + content.raw).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    for bare in (b"\n", b"\r"):
        mended = Content(raw + b"y" + bare + raw)
        assert mended.raw.removesuffix(b"\r\n") == (raw + b"y\r\n" + raw).removesuffix(b"\r\n")


@pytest.mark.parametrize("raw", [b"a\nb\rc\r\nd", b"Subject: x\n\n.\nMAIL FROM:<>\n", b"a\r\n.\rb\r\n", b"", b"\r"])
def test_no_bare_line_end_leaves(raw: bytes) -> None:
    sent = Content(raw).stuffed
    assert sent.count(b"\n") == sent.count(b"\r") == sent.count(b"\r\n")
    assert sent.endswith(b"\r\n.\r\n") and sent.count(b"\r\n.\r\n") == 1


@given(st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\n", b"\r", b"\xff"]), max_size=30))
def test_stuffing_is_undone_by_the_host(pieces: list[bytes]) -> None:
    content = Content(b"".join(pieces))
    lines = content.stuffed.split(b"\r\n")[:-2]
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in lines) == content.raw


def offered(*lines: str) -> Capabilities:
    text = "\r\n".join(["250-host", *(f"250-{line}" for line in lines), "250 HELP"])
    (ehlo,) = ReplyReader().feed(text.encode() + b"\r\n")
    return Capabilities(ehlo)


EVERYTHING = offered("SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS", "PIPELINING")


@pytest.mark.parametrize(
    ("asked", "raw", "host", "refusal"),
    [
        (envelope("b@c.test"), b"x" * 2000, EVERYTHING, "552 5.3.4"),
        (envelope("b@c.test"), b"x" * 2000, offered("SIZE"), ""),
        (envelope("b@c.test"), b"x" * 2000, offered("SIZE 0"), ""),
        (envelope("b@c.test"), b"\xff", offered(), "554 5.6.3"),
        (envelope("b@c.test"), b"\xff", offered("8BITMIME"), ""),
        (envelope("ü@c.test"), b"x", offered("8BITMIME"), "550 5.6.7"),
        (envelope("b@c.test", smtputf8=True), b"x", offered("8BITMIME"), "550 5.6.7"),
        (envelope("ü@c.test"), b"x", EVERYTHING, ""),
        (envelope("b@c.test", require_tls=True), b"x", offered(), "550 5.7.30"),
        (envelope("b@c.test>\r\nRCPT TO:<evil@c.test"), b"x", EVERYTHING, "553 5.1.3"),
    ],
)
def test_what_a_host_cannot_take_is_not_sent(asked: Envelope, raw: bytes, host: Capabilities, refusal: str) -> None:
    said = impossible(asked, Content(raw), host)
    assert str(said or "").startswith(refusal) and bool(said) == bool(refusal)


def test_parameters_are_said_to_those_who_know_them() -> None:
    line = RecipientLine("b@c.test", ("SUCCESS", "FAILURE"), "rfc822;b+2B@c.test")
    asked = Envelope("a@example.test", (line,), ret="HDRS", envid="id=1 +x")
    content = Content(b"x")
    assert mail_command(asked, content, EVERYTHING) == (
        b"MAIL FROM:<a@example.test> SIZE=3 RET=HDRS ENVID=id+3D1+20+2Bx\r\n"
    )
    assert rcpt_command(line, EVERYTHING) == (b"RCPT TO:<b@c.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+2B@c.test\r\n")
    assert mail_command(asked, content, offered()) == b"MAIL FROM:<a@example.test>\r\n"
    assert rcpt_command(line, offered()) == b"RCPT TO:<b@c.test>\r\n"
    assert xtext("ü=") == "+C3+BC+3D"
