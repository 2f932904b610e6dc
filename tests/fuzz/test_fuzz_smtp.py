"""Whole sessions fuzzed. Whatever the octets: the session ends in peace, each message accepted is kept exactly as sent,
and each one refused is not kept at all.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.support.wire import Wire

MAX_BYTES = 300
NO_FILES = Path(tempfile.gettempdir())

#: what SMTP is made of, and what it must not be mistaken for.
TOKENS = st.sampled_from(
    (
        *(b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\r\n.", b"\n.\n", b"\0", b" ", b"x" * 100, b"NOOP\r\n"),
        *(b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<agent@example.test>\r\n", b"RCPT TO:<no@where.test>\r\n"),
        *(b"DATA\r\n", b"BDAT 5\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n", b"BDAT x\r\n", b"RSET\r\n"),
        *(b"MAIL FROM:<>", b" SIZE=9", b" SMTPUTF8", b"\xc3\xbc", b"\xff", b"<", b">", b'"', b"AUTH PLAIN =\r\n"),
        *(b"VRFY x\r\n", b"EHLO a.test\r\n", b"HELO b.test\r\n"),
    )
)
CONTENT = st.lists(
    st.sampled_from((b"\r\n", b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0\xff", b"MAIL FROM:<>\r\n", b"z" * 90)),
    max_size=14,
).map(b"".join)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=4)
JUNK = st.binary(max_size=60).filter(lambda octets: not octets.upper().startswith((b"BDAT", b"QUIT")))
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def cut(octets: bytes, sizes: list[int]) -> Iterator[bytes]:
    """``octets`` in blocks of those sizes, over and over."""
    position = turn = 0
    while position < len(octets):
        yield octets[position : position + sizes[turn % len(sizes)]]
        position += sizes[turn % len(sizes)]
        turn += 1


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of the fuzzer's own, which it turns by hand."""
    made = asyncio.new_event_loop()
    yield made
    made.close()


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stream=st.lists(TOKENS | st.binary(max_size=8), max_size=60).map(b"".join), sizes=SIZES)
def test_any_octets(loop: asyncio.AbstractEventLoop, stream: bytes, sizes: list[int]) -> None:
    with structlog.testing.capture_logs() as lines:
        wire = Wire(loop, NO_FILES, max_message_bytes=MAX_BYTES)
        replies = wire.send(b"EHLO fuzz.test\r\n", *cut(stream, sizes))
        wire.end()
    assert [line for line in lines if line["log_level"] == "error"] == []
    kept = wire.receiver.envelopes
    assert len(kept) == sum("queued as" in reply for reply in replies)
    for envelope in kept:
        assert len(envelope.raw) <= MAX_BYTES
        assert not BARE.search(envelope.raw)
        assert envelope.recipients


class Conversation(RuleBasedStateMachine):
    """A client that does much of what clients do, and some of what they should not, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.expected: list[bytes] = []
        self.connect()

    @precondition(lambda self: self.wire.over)
    @rule()
    def reconnect(self) -> None:
        self.check()
        self.wire.end()
        self.connect()

    def connect(self) -> None:
        """Whatever happened before, the next client is served."""
        self.wire = Wire(self.loop, NO_FILES, max_message_bytes=MAX_BYTES, max_bad_commands=5)
        self.expected = []
        assert self.wire.send()[0].startswith("220")
        assert self.wire.send(b"EHLO client.test\r\n")[-1].startswith("250")

    def check(self) -> None:
        """What is kept is what was accepted, as it was sent."""
        assert [envelope.raw for envelope in self.wire.receiver.envelopes] == self.expected

    def opened(self) -> bool:
        """Begins a transaction; False if the session does not live any more."""
        if self.wire.over:
            return False
        replies = self.wire.send(b"RSET\r\n", b"MAIL FROM:<a@sender.test>\r\nRCPT TO:<agent@example.test>\r\n")
        assert [reply[:3] for reply in replies] == ["250"] * 3
        return True

    def judge(self, reply: str, message: bytes) -> None:
        """The verdict that ``message`` deserves."""
        if BARE.search(message):
            assert reply[:9] in ("550 5.6.0", "552 5.3.4")
        elif len(message) > MAX_BYTES:
            assert reply.startswith("552 5.3.4")
        else:
            assert reply.startswith("250 2.0.0 queued as")
            self.expected.append(message)
        self.check()

    @rule(octets=JUNK, sizes=SIZES)
    def junk(self, octets: bytes, sizes: list[int]) -> None:
        """A line of anything. In no state is it a message, so it brings a reply for each line, or the end."""
        if self.wire.over:
            return
        replies = self.wire.send(*cut(octets + b"\r\n", sizes))
        assert replies
        if replies[-1].startswith("354"):
            self.wire.send(b"\r\n.\r\n")
        self.check()

    @rule(message=CONTENT, sizes=SIZES)
    def data(self, message: bytes, sizes: list[int]) -> None:
        """A message as a good client sends it, dots doubled."""
        if not self.opened():
            return
        message += b"\r\n"
        assert self.wire.send(b"DATA\r\n")[0].startswith("354")
        stuffed = re.sub(rb"(\A|(?<=\r\n))\.", b"..", message)
        (reply,) = self.wire.send(*cut(stuffed + b".\r\n", sizes))
        self.judge(reply, message)

    @rule(message=CONTENT, sizes=SIZES, chunks=SIZES)
    def bdat(self, message: bytes, sizes: list[int], chunks: list[int]) -> None:
        """The same in chunks, all of them sent whatever the answers are."""
        if not self.opened():
            return
        stream = b"".join(b"BDAT %d\r\n%s" % (len(chunk), chunk) for chunk in cut(message, chunks))
        replies = self.wire.send(*cut(stream + b"BDAT 0 LAST\r\n", sizes))
        assert len(replies) == len(list(cut(message, chunks))) + 1
        self.judge(replies[-1], message)

    @rule(message=CONTENT, pipelined=st.booleans())
    def data_refused(self, message: bytes, pipelined: bool) -> None:
        """DATA without a recipient: what follows in the same breath is not taken for commands."""
        if self.wire.over:
            return
        self.wire.send(b"RSET\r\n")
        behind = message + b"\r\n.\r\n" if pipelined else b""
        replies = self.wire.send(b"DATA\r\n" + behind)
        assert len(replies) == 1
        assert replies[0][:3] in ("503", "521", "554")
        assert not pipelined or self.wire.over
        self.check()

    @rule(message=CONTENT)
    def vanish(self, message: bytes) -> None:
        """The client is gone in the middle of a message."""
        if not self.opened():
            return
        self.wire.send(b"DATA\r\n", b"x" + message.replace(b"\r\n.", b"\r\n..")[:50])
        self.wire.end()
        self.check()

    def teardown(self) -> None:
        self.check()
        self.wire.end()
        self.loop.close()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
