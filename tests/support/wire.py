"""A session without a socket: octets go in by hand, replies are read at once. Made for fuzzing."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import msgspec

from clawmail.base.settings import Smtp
from clawmail.core.rates import Rates
from clawmail.smtpd.commands import COMMANDS
from clawmail.smtpd.health import Health
from clawmail.smtpd.pacing import Pacing
from clawmail.smtpd.service import Role, Service
from clawmail.smtpd.session import Session
from clawmail.smtpd.tls import Certificates
from tests.support.smtp import ScriptedReceiver

#: turns of the loop after which a session has done whatever it can do with what it was given.
MAX_TURNS = 60

#: every reply but greeting, EHLO's, HELO's, 354 and 334 carries an enhanced status code of its own class.
REPLY = re.compile(r"(220|250|354|334)[ -].*|([245])\d\d \2\.\d{1,3}\.\d{1,3} .+")


class _NoSocket:
    """Nothing ever waits with a kernel that does not know it."""

    def fileno(self) -> int:
        raise OSError


class FakeTransport(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False
        self.said_all = False
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 40000), "socket": _NoSocket()}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.said_all = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.close()


class Wire:
    """One session, its receiver, and the replies not yet read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, data_dir: Path, **smtp: Any) -> None:
        self._loop = loop
        self.receiver = ScriptedReceiver()
        settings = msgspec.convert(smtp, Smtp)
        self.service = Service(
            settings=settings,
            hostname="mx.example.test",
            commands=COMMANDS,
            receiver=self.receiver,
            certificates=Certificates(settings, hostname="mx.example.test", data_dir=data_dir),
            pacing=Pacing(settings, Rates(None), enabled=False),
            health=Health(),
        )
        self.transport = FakeTransport()
        self.session = Session(self.service, Role.EXCHANGE, loop, self._begin)
        self.session.connection_made(self.transport)
        self._read = 0
        self.turn()

    def _begin(self, session: Session) -> None:
        self.task = self._loop.create_task(session.run())

    def turn(self) -> None:
        """Lets the session work until it waits for more."""
        self._loop.run_until_complete(self._turns())
        if self.transport.closed and self.session.transport is not None:
            self.session.connection_lost(None)
            self._loop.run_until_complete(self._turns())

    async def _turns(self) -> None:
        for _ in range(MAX_TURNS):
            await asyncio.sleep(0)
            if self.task.done() or self.session.waiting:
                return

    @property
    def over(self) -> bool:
        """The session has ended, or has said its last word."""
        return self.task.done() or self.transport.said_all

    def send(self, *blocks: bytes) -> list[str]:
        """Sends blocks one by one; the replies they brought, checked for their form."""
        for block in blocks:
            if not self.over:
                self.session.data_received(block)
                self.turn()
        said = bytes(self.transport.written[self._read :])
        self._read += len(said)
        lines = said.decode().split("\r\n")
        assert lines.pop() == "", said
        assert all(REPLY.fullmatch(line) for line in lines), said
        return [line for line in lines if line[3] == " "]

    def end(self) -> None:
        """The client goes away; the session has to end."""
        if not self.task.done():
            self.session.eof_received()
            self.turn()
        if self.session.transport is not None:
            self.transport.close()
            self.session.connection_lost(None)
        self.turn()
        assert self.task.done()
        assert self.task.exception() is None
        assert self.service.pacing.octets_on_their_way == 0
