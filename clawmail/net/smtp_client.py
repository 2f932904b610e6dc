"""One conversation with one MX host: greeting, EHLO, STARTTLS, then message after message (RFC 5321).

Commands go out together when the host offers PIPELINING (RFC 2920), so a message costs two round trips, and all
recipients of a message at this host share one transaction. A reply belongs to a recipient, or to all of them; a
conversation that ends early says at which stage and with what words, in ``SessionEnded``.

The library aiosmtplib has no pipelining and reads line by line through locks; what it would cost, and why this is our
own, is in docs/decisions/0002-smtp-client.md.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clawmail.model.attempt import Stage, TlsFacts
from clawmail.net.addresses import Address
from clawmail.net.content import Content
from clawmail.net.dialer import Unreachable, dial
from clawmail.net.envelope import Capabilities, Envelope, impossible, mail_command, rcpt_command
from clawmail.net.tls import Demand, Level, TlsContexts, TlsFailed, failure_result, shown_chain
from clawmail.net.wire import Wire, WireBroken
from clawmail.protocol.replies import Reply, our_reply


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits, in seconds (RFC 5321 section 4.5.3.2)."""

    connect: float = 30.0
    greeting: float = 300.0
    command: float = 300.0
    tls: float = 60.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    quit: float = 5.0


class SessionEnded(Exception):
    """The host cannot be used (any more). ``reply`` is its own, or ours for what happened."""

    def __init__(self, stage: Stage, reply: Reply, *, tls_result: str = "", address: Address | None = None) -> None:
        super().__init__(str(reply))
        self.address = address
        self.stage = stage
        self.reply = reply
        #: for stage TLS: the RFC 8460 result type.
        self.tls_result = tls_result


class Withdrawn(Exception):
    """The message was not ours to send any more when its turn came. Not an octet of it has left."""


class Session:
    """A host that said hello. One message at a time."""

    def __init__(self, wire: Wire, host: str, address: Address, timeouts: Timeouts) -> None:
        self.host = host
        self.address = address
        self.tls: TlsFacts | None = None
        #: the protection it was opened with.
        self.level = Level.NEVER
        #: the destination it was opened for, under that destination's policy.
        self.opened_for = ""
        self.messages = 0
        self.capabilities = Capabilities(None)
        self._wire = wire
        self._timeouts = timeouts
        self._stage = Stage.GREETING
        self._needs_reset = False
        self._ending = False
        self._farewell: Reply | None = None

    @property
    def stage(self) -> Stage:
        """How far the conversation is."""
        return self._stage

    @property
    def usable(self) -> bool:
        """Another message may be tried."""
        return self._wire.quiet and not self._ending

    # Opening.

    async def greet(self, ehlo_name: str, demand: Demand, contexts: TlsContexts) -> None:
        """Greeting, EHLO, STARTTLS as demanded. Raises SessionEnded."""
        self.level = demand.level
        greeting = await self._reply(self._timeouts.greeting)
        if greeting.code != 220:
            raise self._ended(greeting)
        await self._hello(ehlo_name)
        if demand.level is Level.NEVER:
            return
        if not self.capabilities.starttls:
            if demand.level >= Level.ENCRYPT:
                self._stage = Stage.TLS
                raise self._ended(our_reply(451, "4.7.5", "the host offers no STARTTLS"), "starttls-not-supported")
            return
        if await self._start_tls(demand, contexts):
            await self._hello(ehlo_name)

    async def _hello(self, ehlo_name: str) -> None:
        self._stage = Stage.EHLO
        reply = await self._command(f"EHLO {ehlo_name}\r\n".encode())
        if reply.positive:
            self.capabilities = Capabilities(reply)
            return
        if reply.code == 421 or reply.code // 100 == 4:
            raise self._ended(reply)
        reply = await self._command(f"HELO {ehlo_name}\r\n".encode())  # RFC 5321 section 3.2: fall back
        if not reply.positive:
            raise self._ended(reply)
        self.capabilities = Capabilities(None)

    async def _start_tls(self, demand: Demand, contexts: TlsContexts) -> bool:
        self._stage = Stage.TLS
        reply = await self._command(b"STARTTLS\r\n")
        if reply.code != 220:
            if demand.level is Level.MAY and reply.code != 421:
                return False
            raise self._ended(reply, "starttls-not-supported")
        try:
            name = str(self.address) if self.host.startswith("[") else self.host
            ssl_object = await self._wire.start_tls(contexts.of(demand.level), name, self._timeouts.tls)
            if demand.check is not None and (problem := demand.check(shown_chain(ssl_object))):
                raise TlsFailed(problem, "validation-failure")
        except TlsFailed as error:
            raise self._ended(our_reply(451, "4.7.5", str(error)), error.result) from error
        except (ssl.SSLError, OSError, TimeoutError, WireBroken) as error:
            raise self._ended(our_reply(451, "4.7.5", f"TLS handshake: {error}"), failure_result(error)) from error
        cipher = ssl_object.cipher()
        verified = {Level.PKIX: "pkix", Level.DANE: "dane"}.get(demand.level, "")
        self.tls = TlsFacts(ssl_object.version() or "", cipher[0] if cipher else "", verified)
        return True

    # Messages.

    async def deliver(
        self, envelope: Envelope, content: Content, may_send: Callable[[], bool] = lambda: True
    ) -> list[tuple[Stage, Reply]]:
        """Sends one message; for each recipient, in order, the reply that decides and where it was given.

        ``may_send`` is asked before the first octet of the message. Raises SessionEnded when the conversation broke
        off: then no recipient got a final reply; and Withdrawn: then the session is at its end.
        """
        if (unfit := impossible(envelope, content, self.capabilities)) is not None:
            return [(Stage.LOCAL, unfit)] * len(envelope.recipients)
        self.messages += 1
        self._stage = Stage.MAIL
        if self._needs_reset:
            await self._command(b"RSET\r\n")
        self._needs_reset = True
        mail, replies, go_ahead = await self._offer(envelope, content)
        if not mail.positive:
            replies = [mail] * len(envelope.recipients)
        outcome = [(Stage.RCPT if mail.positive else Stage.MAIL, reply) for reply in replies]
        accepted = [number for number, reply in enumerate(replies) if reply.positive]
        if accepted:
            final = await self._send(content, go_ahead, may_send)
            for number in accepted:
                outcome[number] = (self._stage, final)
        elif go_ahead is not None and go_ahead.code == 354:
            # RFC 2920 section 3.1: DATA went through without a recipient; a lone dot ends it.
            await self._command(b".\r\n")
        return outcome

    async def _offer(self, envelope: Envelope, content: Content) -> tuple[Reply, list[Reply], Reply | None]:
        """MAIL and RCPTs, and DATA with them where the host pipelines: the replies to each."""
        mail = mail_command(envelope, content, self.capabilities)
        rcpts = [rcpt_command(line, self.capabilities) for line in envelope.recipients]
        replies: list[Reply] = []
        if not self.capabilities.pipelining:
            answer = await self._command(mail)
            for rcpt in rcpts if answer.positive else ():
                self._stage = Stage.RCPT
                replies.append(await self._command(rcpt))
            return answer, replies, None
        with_data = not self.capabilities.chunking
        self._wire_write(b"".join([mail, *rcpts, b"DATA\r\n" if with_data else b""]))
        answer = await self._reply(self._timeouts.command)
        for _ in rcpts:
            self._stage = Stage.RCPT
            replies.append(await self._reply(self._timeouts.command))
        return answer, replies, await self._reply(self._timeouts.data) if with_data else None

    async def _send(self, content: Content, go_ahead: Reply | None, may_send: Callable[[], bool]) -> Reply:
        """The message itself, to the recipients that were accepted. ``go_ahead``: the reply to a pipelined DATA."""
        self._stage = Stage.DATA
        if self.capabilities.chunking:
            # RFC 3030 section 2: one chunk, which is the last; there is no dot to stuff.
            opening, payload = b"BDAT %d LAST\r\n" % content.size, content.raw
        else:
            go_ahead = go_ahead or await self._command(b"DATA\r\n", self._timeouts.data)
            if go_ahead.code != 354:
                return go_ahead
            opening, payload = b"", content.stuffed
        if not may_send():
            self.abort()  # after 354 nothing but a message, or a broken connection, is in order
            raise Withdrawn
        if opening:
            self._wire_write(opening)
        self._stage = Stage.DOT
        try:
            await self._wire.send_all(payload, self._timeouts.block)
        except WireBroken as broken:
            raise self._broken(broken) from broken
        reply = await self._reply(self._timeouts.dot)
        self._needs_reset = not reply.positive
        return reply

    # The end.

    async def quit(self) -> None:
        """Says good-bye, briefly."""
        if self._wire.quiet:
            try:
                self._wire.write(b"QUIT\r\n")
                await self._wire.reply(self._timeouts.quit)
            except WireBroken:
                pass  # good-bye was said; there is nothing to tell anybody
        self._wire.close()

    def abort(self) -> None:
        """Drops the connection without a word."""
        self._wire.abort("dropped")

    # Lines.

    def _wire_write(self, data: bytes) -> None:
        try:
            self._wire.write(data)
        except WireBroken as broken:
            raise self._broken(broken) from broken

    async def _command(self, line: bytes, timeout: float | None = None) -> Reply:
        self._wire_write(line)
        return await self._reply(timeout or self._timeouts.command)

    async def _reply(self, timeout: float) -> Reply:
        try:
            reply = await self._wire.reply(timeout)
        except WireBroken as broken:
            raise self._broken(broken) from broken
        if reply.code == 421:
            # RFC 5321 section 3.8: the host is about to hang up, whatever was asked.
            self._ending = True
            self._farewell = reply
        return reply

    def _ended(self, reply: Reply, tls_result: str = "") -> SessionEnded:
        self._ending = True
        self.abort()
        return SessionEnded(self._stage, reply, tls_result=tls_result, address=self.address)

    def _broken(self, broken: WireBroken) -> SessionEnded:
        self._ending = True
        reply = self._farewell or our_reply(451, "4.4.2", str(broken))
        return SessionEnded(self._stage, reply, address=self.address)


async def open_session(
    addresses: Sequence[Address],
    host: str,
    *,
    port: int,
    ehlo_name: str,
    demand: Demand,
    contexts: TlsContexts,
    timeouts: Timeouts,
    source_ip: str = "",
) -> Session:
    """Connects to ``host`` at one of ``addresses`` and says hello, protected as demanded. Raises SessionEnded."""
    try:
        dialed = await dial(addresses, port, Wire, timeout=timeouts.connect, source_ip=source_ip)
    except Unreachable as error:
        raise SessionEnded(Stage.CONNECT, our_reply(451, "4.4.1", f"connecting to {host}: {error}")) from error
    session = Session(dialed.protocol, host, dialed.address, timeouts)
    try:
        await session.greet(ehlo_name, demand, contexts)
    except BaseException:
        session.abort()
        raise
    return session
