"""A scripted MX on loopback: takes mail and keeps it, or misbehaves the way a test says.

    async with SmtpSink(replies={"RCPT": "550 5.1.1 no such user"}) as mx:
        ...
        assert mx.messages[0].recipients == ["bob@there.test"]

``replies`` maps a command (or "CONNECT", "DOT") to a reply, or to a function of the command's argument that returns one
or None for the usual one; ``hang_up`` and ``silent`` name the stage at which the connection breaks or falls dumb.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

Script = str | Callable[[str], str | None]

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 50000000", "DSN", "ENHANCEDSTATUSCODES")


@dataclass
class Taken:
    """A message the sink took over."""

    mail_from: str
    mail_parameters: str
    recipients: list[str]
    recipient_parameters: list[str]
    data: bytes
    tls: str
    #: address it came from.
    peer: str = ""
    #: the sink said 250; else it hung up with the message in its hands.
    answered: bool = True


@dataclass
class SmtpSink:
    """See the module's text. ``port`` 0 finds a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    extensions: tuple[str, ...] = EXTENSIONS
    replies: Mapping[str, Script] = field(default_factory=dict)
    #: stage before whose reply the connection is closed.
    hang_up: str = ""
    #: stage at which no reply ever comes.
    silent: str = ""
    tls: ssl.SSLContext | None = None
    #: what follows "220" to STARTTLS is no TLS.
    garbage_after_starttls: bool = False
    #: seconds before each reply.
    delay: float = 0.0

    messages: list[Taken] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> Self:
        """Listens."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, limit=1 << 26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Closes everything."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self.stop()

    async def drop_connections(self) -> None:
        """Hangs up on everybody."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def bodies(self) -> list[bytes]:
        """What was taken, in order."""
        return [taken.data for taken in self.messages]

    def recipients(self) -> list[str]:
        """Everybody who got something, in order, as often as he got it."""
        return [recipient for taken in self.messages for recipient in taken.recipients]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self.most_open = max(self.most_open, len(self._writers))
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _Conversation(self, reader, writer).run()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError, TimeoutError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()


class _HungUp(ConnectionError):
    pass


class _Conversation:
    def __init__(self, sink: SmtpSink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sink, self.reader, self.writer = sink, reader, writer
        self.mail: tuple[str, str] | None = None
        self.recipients: list[tuple[str, str]] = []
        self.chunks = b""
        self.tls = ""

    async def say(self, stage: str, usual: str, argument: str = "") -> str:
        """Replies as scripted, else as usual; returns what was said."""
        sink = self.sink
        if sink.silent == stage:
            await asyncio.sleep(3600)
        if sink.hang_up == stage:
            raise _HungUp
        if sink.delay:
            await asyncio.sleep(sink.delay)
        script = sink.replies.get(stage)
        reply = (script(argument) if callable(script) else script) or usual
        self.writer.write(reply.encode() + b"\r\n")
        await self.writer.drain()
        if reply.startswith("421"):
            raise _HungUp
        return reply

    async def run(self) -> None:
        if not (await self.say("CONNECT", "220 sink ESMTP")).startswith("220"):
            return
        while line := await self.reader.readline():
            command = line.decode("utf-8", "replace").rstrip("\r\n")
            self.sink.commands.append(command)
            verb, _, argument = command.partition(" ")
            handler = getattr(self, f"do_{verb.lower()}", None)
            if handler is None:
                await self.say(verb.upper(), "500 5.5.1 what?")
            elif await handler(argument) == "quit":
                return

    async def do_ehlo(self, argument: str) -> None:
        offered = [*self.sink.extensions, *(["STARTTLS"] if self.sink.tls and not self.tls else [])]
        lines = ["sink", *offered]
        reply = "\r\n".join(f"250{'-' if n < len(lines) - 1 else ' '}{line}" for n, line in enumerate(lines))
        await self.say("EHLO", reply, argument)

    async def do_helo(self, argument: str) -> None:
        await self.say("HELO", "250 sink", argument)

    async def do_starttls(self, _argument: str) -> None:
        if not (await self.say("STARTTLS", "220 go on")).startswith("220"):
            return
        if self.sink.garbage_after_starttls:
            await self.reader.read(1)
            self.writer.write(b"this is no TLS record, whatever you think of it")
            raise _HungUp
        assert self.sink.tls is not None
        await self.writer.start_tls(self.sink.tls)
        self.tls = self.writer.get_extra_info("ssl_object").version()

    async def do_mail(self, argument: str) -> None:
        path, parameters = _path(argument)
        if (await self.say("MAIL", "250 2.1.0 ok", argument)).startswith("250"):
            self.mail, self.recipients, self.chunks = (path, parameters), [], b""

    async def do_rcpt(self, argument: str) -> None:
        if self.mail is None:
            await self.say("RCPT", "503 5.5.1 MAIL first")
        elif (await self.say("RCPT", "250 2.1.5 ok", argument)).startswith("250"):
            self.recipients.append(_path(argument))

    async def do_data(self, _argument: str) -> None:
        if not self.recipients:
            await self.say("NORCPT", "554 5.5.1 no valid recipients")
            return
        if not (await self.say("DATA", "354 go on")).startswith("354"):
            return
        lines = []
        while (line := await self.reader.readline()) != b".\r\n":
            if not line:
                raise _HungUp
            lines.append(line[1:] if line.startswith(b".") else line)
        await self.take(b"".join(lines))

    async def do_bdat(self, argument: str) -> None:
        size, _, last = argument.partition(" ")
        self.chunks += await self.reader.readexactly(int(size))
        if not self.recipients:
            await self.say("BDAT", "503 5.5.1 no valid recipients")
        elif last.upper() == "LAST":
            await self.take(self.chunks)
        else:
            await self.say("BDAT", "250 2.0.0 more")

    async def take(self, data: bytes) -> None:
        assert self.mail is not None
        peer = self.writer.get_extra_info("peername")[0]
        recipients, parameters = [r for r, _ in self.recipients], [p for _, p in self.recipients]
        taken = Taken(*self.mail, recipients, parameters, data, self.tls, peer)
        if self.sink.hang_up == "AFTER DOT":
            self.sink.messages.append(replace(taken, answered=False))
            raise _HungUp
        said = await self.say("DOT", "250 2.0.0 taken", self.mail[0])
        if said.startswith("250"):
            self.sink.messages.append(taken)
        self.mail, self.recipients, self.chunks = None, [], b""

    async def do_rset(self, _argument: str) -> None:
        self.mail, self.recipients = None, []
        await self.say("RSET", "250 2.0.0 ok")

    async def do_noop(self, _argument: str) -> None:
        await self.say("NOOP", "250 2.0.0 ok")

    async def do_quit(self, _argument: str) -> str:
        await self.say("QUIT", "221 2.0.0 bye")
        return "quit"


def _path(argument: str) -> tuple[str, str]:
    path, _, parameters = argument.partition(":")[2].strip().partition(">")
    return path.lstrip("<"), parameters.strip()
