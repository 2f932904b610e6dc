"""The door on its own: a scripted receiver, a running door, and a client that speaks raw SMTP."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from clawmail.base.settings import Limits, Server, Settings, Smtp
from clawmail.core.envelope import Envelope, Recipient, Refused
from clawmail.protocol.dns import Address
from clawmail.protocol.spf.check import SpfResult
from clawmail.smtpd.server import SmtpDoor

#: seconds after which a silent door fails a test.
PATIENCE_SECONDS = 10.0


@dataclass
class ScriptedReceiver:
    """Takes mail for ``@example.test`` except ``unknown@``; keeps every envelope; fails when told to."""

    envelopes: list[Envelope] = field(default_factory=list)
    #: raised by the next ``receive``, for as long as it is set.
    failure: Exception | None = None
    #: raised by ``judge_recipient``.
    recipient_failure: Exception | None = None
    #: awaited inside ``receive``.
    hold: Callable[[], Awaitable[object]] | None = None
    keep: bool = True
    checked: list[tuple[str, str, str]] = field(default_factory=list)
    received: int = 0
    #: rests between pieces of large messages.
    rests: int = 0

    def on_its_way(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def give_way(self, seconds: float) -> None:
        assert seconds >= 0
        self.rests += 1
        await asyncio.sleep(0)

    async def judge_recipient(self, address: str) -> Recipient:
        if self.recipient_failure is not None:
            raise self.recipient_failure
        local, _, domain = address.rpartition("@")
        if address.lower() == "postmaster":
            return Recipient("postmaster@example.test", None, None)
        if domain.lower() != "example.test":
            raise Refused(550, "5.7.1", "no mail is taken for that domain here")
        if local == "unknown":
            raise Refused(550, "5.1.1", "no such mailbox")
        return Recipient(f"{local}@{domain.lower()}", None, None)

    async def check_sender(self, ip: Address, mail_from: str, helo: str) -> SpfResult:
        self.checked.append((str(ip), mail_from, helo))
        return SpfResult("none", mail_from.rpartition("@")[2], "mailfrom")

    async def receive(self, envelope: Envelope) -> str:
        if self.hold is not None:
            await self.hold()
        if self.failure is not None:
            raise self.failure
        self.received += 1
        if self.keep:
            self.envelopes.append(envelope)
        return f"q{self.received}"


def door_settings(data_dir: Path, *, limits: bool = False, **smtp: Any) -> Settings:
    """Settings of a door on a free port of loopback."""
    smtp.setdefault("listen", ["127.0.0.1:0"])
    return Settings(
        server=Server(hostname="mx.example.test", data_dir=str(data_dir)),
        smtp=msgspec.convert(smtp, Smtp),
        limits=Limits(enabled=limits),
    )


@contextlib.asynccontextmanager
async def open_door(settings: Settings, receiver: Any, **seams: Any) -> AsyncIterator[SmtpDoor]:
    """A door that is open inside the block."""
    door = SmtpDoor(settings, receiver, **seams)
    await door.start()
    try:
        yield door
    finally:
        await door.stop(0.1)


class Client:
    """Raw SMTP: sends octets as they are, reads replies whole."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, address: tuple[str, int], *, tls: bool = False) -> Client:
        """Connects, without reading the greeting."""
        context = trusting() if tls else None
        return cls(*await asyncio.open_connection(*address, ssl=context))

    def send(self, octets: bytes) -> None:
        """Sends without waiting."""
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply, its lines joined by newlines; "" at the end of the connection."""
        lines = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    line = (await self.reader.readline()).decode()
                except ConnectionError:
                    line = ""
                lines.append(line.rstrip("\r\n"))
                if line[3:4] != "-":
                    return "\n".join(lines)

    async def say(self, line: str) -> str:
        """Sends a command and reads its reply."""
        self.send(line.encode() + b"\r\n")
        return await self.reply()

    async def ended(self) -> bool:
        """Whether nothing more comes."""
        return await self.reply() == ""

    async def hello(self) -> str:
        """Reads the greeting, says EHLO, returns its reply."""
        assert (await self.reply()).startswith("220 ")
        return await self.say("EHLO client.test")

    async def starttls(self) -> None:
        """STARTTLS and the handshake."""
        assert (await self.say("STARTTLS")).startswith("220 ")
        await self.writer.start_tls(trusting())

    async def mail(self, body: bytes, *, sender: str = "a@sender.test", to: str = "agent@example.test") -> str:
        """A whole transaction; ``body`` is sent as it is, then the lone dot. Returns the last reply."""
        for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>", "DATA"):
            reply = await self.say(command)
            if reply[0] not in "23":
                return reply
        self.send(body + b"\r\n.\r\n")
        return await self.reply()

    async def close(self) -> None:
        """Goes away without a word."""
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()


def trusting() -> ssl.SSLContext:
    """A client's TLS that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
