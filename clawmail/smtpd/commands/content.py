"""DATA and BDAT: the message, and what becomes of it (RFC 5321 section 4.1.1.4, RFC 3030)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from clawmail.base.errors import ClawmailError
from clawmail.core.envelope import Refused
from clawmail.smtpd import submission
from clawmail.smtpd.connection import HIGH_WATER
from clawmail.smtpd.data import Collector, DotReader, Problem
from clawmail.smtpd.pacing import Load
from clawmail.smtpd.replies import Hangup, bad_argument, line, out_of_turn
from clawmail.smtpd.transaction import Transaction

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session

#: seconds after which a message's average speed is judged, so that a slow start is forgiven.
SPEED_GRACE_SECONDS = 10.0
#: octets of a message that gives way to others' while it comes in, and is put together beside the loop.
LARGE_BYTES = 1024 * 1024
#: digits of a chunk's size; a longer number is no size.
MAX_SIZE_DIGITS = 12
#: octets of a refused chunk that are read and thrown away; beyond it the session is closed.
MAX_SWALLOWED = 256 * 1024 * 1024


async def data(session: Session, argument: str) -> str:
    """Takes a message up to the lone dot."""
    try:
        transaction = _ready(session)
        if argument:
            raise bad_argument("DATA takes no argument")
        if transaction.content is not None:
            raise out_of_turn("the message was begun with BDAT")
    except Refused:
        # RFC 2920 section 3.1: a client waits for our answer to DATA. What one sent that did not wait is a message,
        # and must not be read as commands.
        session.refuse_haste("sending a message before the answer to DATA")
        raise
    with session.service.receiver.on_its_way():
        await session.push("354 go ahead, end with <CRLF>.<CRLF>")
        return await _up_to_the_dot(session, transaction)


async def _up_to_the_dot(session: Session, transaction: Transaction) -> str:
    collector, load = _begin(session, transaction)
    reader, watch = DotReader(collector), _Speed(session)
    rest: bytes | None = None
    while rest is None:
        block = await session.read_block(watch.deadline())
        began = time.perf_counter()
        rest = reader.feed(block)
        load.grown()
        if rest is None:
            watch.passed(len(block))
            await _give_way(session, collector, time.perf_counter() - began)
    session.unread(rest)
    return await _finish(session, transaction, collector)


async def bdat(session: Session, argument: str) -> str:
    """Takes a chunk of octets, whatever they are; with LAST the message is whole."""
    size, last = _chunk(argument)
    try:
        transaction = _ready(session)
    except Refused:
        await _swallow(session, size)
        raise
    collector, load = _begin(session, transaction)
    if collector.size + size > session.service.settings.max_message_bytes:
        collector.refuse(Problem.TOO_BIG)
        load.grown()
    if collector.problem is not None:
        await _swallow(session, size)
    else:
        async for block in _octets(session, size):
            began = time.perf_counter()
            collector.add(block)
            load.grown()
            await _give_way(session, collector, time.perf_counter() - began)
    if last:
        with session.service.receiver.on_its_way():
            return await _finish(session, transaction, collector)
    if collector.problem is not None:
        raise Refused(*collector.problem.value)
    return f"250 2.0.0 {size} octets taken"


async def _give_way(session: Session, collector: Collector, seconds: float) -> None:
    """After a block that took ``seconds``: others have their turn, and a large message rests while they have mail."""
    if collector.size > LARGE_BYTES:
        await session.service.receiver.give_way(seconds)
    else:
        await asyncio.sleep(0)


def _ready(session: Session) -> Transaction:
    transaction = session.require_transaction()
    if not transaction.recipients:
        if transaction.refused:
            raise Refused(554, "5.5.1", "no recipient was accepted")
        raise out_of_turn("send RCPT first")
    return transaction


def _begin(session: Session, transaction: Transaction) -> tuple[Collector, Load]:
    """The message of the transaction: a new one, or the one an earlier chunk began."""
    if transaction.content is None or transaction.load is None:
        settings = session.service.settings
        normalise = settings.bare_newline == "normalize"
        transaction.content = Collector(settings.max_message_bytes, normalise=normalise)
        transaction.load = Load(session.service.pacing, transaction.content, session.client_ip)
    return transaction.content, transaction.load


def _chunk(argument: str) -> tuple[int, bool]:
    # bdat-cmd ::= "BDAT" SP chunk-size [ SP end-marker ] CR LF      (RFC 3030 section 2)
    number, _, marker = (word.strip() for word in argument.strip().partition(" "))
    digits = number.isascii() and number.isdigit() and len(number) <= MAX_SIZE_DIGITS
    if not digits or marker.upper() not in ("", "LAST"):
        # How many octets follow is not known, and they must not be read as commands.
        raise Hangup(501, "5.5.4", "BDAT size [LAST]")
    return int(number), bool(marker)


async def _swallow(session: Session, size: int) -> None:
    """Reads a chunk that is not wanted, so that what it holds is not taken for commands."""
    if size > MAX_SWALLOWED:
        raise Hangup(552, "5.3.4", "the chunk is too large")
    async for _ in _octets(session, size):
        continue


async def _octets(session: Session, size: int) -> AsyncIterator[bytes]:
    """Exactly ``size`` octets of input, in blocks."""
    watch = _Speed(session)
    while size:
        block = await session.read_block(watch.deadline(), min(size, HIGH_WATER))
        size -= len(block)
        if size:
            watch.passed(len(block))
        yield block


async def _finish(session: Session, transaction: Transaction, collector: Collector) -> str:
    """The message is whole: it is handed on, and the transaction ends whatever the answer is."""
    try:
        if collector.problem is not None:
            raise Refused(*collector.problem.value)
        raw = await _whole(session, collector)
        session.service.pacing.count_octets(session.client_ip, len(raw))
        if collector.problem is not None:
            raise Refused(*collector.problem.value)
        await session.flush(session.deadline(session.service.settings.command_timeout_seconds))
        return f"250 2.0.0 queued as {await _hand_on(session, transaction, raw)}"
    except (Refused, ClawmailError) as error:
        refused = error if isinstance(error, Refused) else session.translate(error)
        session.log_refusal(refused, mail_from=transaction.mail_from, rcpt=len(transaction.recipients))
        return line(refused)
    finally:
        session.end_transaction()
        session.message_done()


async def _whole(session: Session, collector: Collector) -> bytes:
    if collector.size <= LARGE_BYTES:
        return collector.finish()
    async with session.service.joining:
        return await asyncio.to_thread(collector.finish)


async def _hand_on(session: Session, transaction: Transaction, raw: bytes) -> str:
    if session.principal is not None:
        return await submission.submit(session, transaction, raw)
    identity = await transaction.identity if transaction.identity is not None else None
    return await session.service.receiver.receive(session.fill_envelope(transaction, raw, identity))


class _Speed:
    """Sees to it that a message keeps coming: silence has an end, and so has dripping."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._began = session.loop.time()
        self._octets = 0

    def deadline(self) -> float:
        return self._session.deadline(self._session.service.settings.data_timeout_seconds)

    def passed(self, octets: int) -> None:
        self._octets += octets
        seconds = self._session.loop.time() - self._began
        floor = self._session.service.settings.min_bytes_per_second
        if seconds > SPEED_GRACE_SECONDS and self._octets < floor * seconds:
            raise Hangup(421, "4.4.2", f"slower than {floor} octets a second, closing")
