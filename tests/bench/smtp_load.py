"""SMTP load with a clock: ``python -m tests.bench.smtp_load < job.json``; see ``tests.bench.loads``.

Messages are due at a fixed rate, whatever the server does (an open loop); one that is due while all sessions are busy
leaves as soon as one is free. What is timed is the wait from the final dot to its 250. Sessions are used again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from tests.bench.loads import LoadResult, SmtpJob
from tests.bench.machine import percentile


class Load:
    """What all sessions share."""

    def __init__(self, job: SmtpJob) -> None:
        self.job = job
        raw = Path(job.file).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        self.content = raw.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        self.recipients = cycle(job.recipients)
        #: whoever has rested longest is next, so that all sources send alike.
        self.idle: deque[Session] = deque()
        self.sessions = 0
        self.waiting = 0
        self.issued = 0
        self.latencies: list[float] = []
        self.refused: Counter[str] = Counter()
        self.done = asyncio.Event()

    def message_due(self) -> None:
        """A message goes out on an idle session, or waits for one."""
        self.issued += 1
        if self.idle:
            self.idle.popleft().send()
        else:
            self.waiting += 1

    def is_free(self, session: Session) -> None:
        """Gives the session what waits, or lets it rest."""
        if self.waiting:
            self.waiting -= 1
            session.send()
            return
        self.idle.append(session)
        if self.issued == self.job.total and len(self.idle) == self.sessions:
            self.done.set()


class Session(asyncio.Protocol):
    """One connection to the server."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = b""
        self._steps: Iterator[Callable[[], None]] = iter(())
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Waits for the greeting."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports only look like asyncio's
        self._steps = iter((self._greet, self._load_free))
        self._load.sessions += 1

    def data_received(self, data: bytes) -> None:
        """One step for each complete reply; replies of several lines end with the one that has a space."""
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            if line[3:4] == b"-":
                continue
            if line[:1] not in b"23":
                self._load.refused[line[:3].decode()] += 1
            step = next(self._steps, None)
            if step is not None:
                step()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody should hang up while there is work."""
        self._load.refused["connection lost"] += 1
        self._load.done.set()

    def send(self) -> None:
        """One message, its envelope pipelined (RFC 2920)."""
        job, recipient = self._load.job, next(self._load.recipients)
        self._steps = iter((_nothing, _nothing, self._content, self._taken))
        self._transport.write(f"MAIL FROM:<{job.sender}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())

    def _greet(self) -> None:
        self._transport.write(b"EHLO mx.sender.bench\r\n")

    def _load_free(self) -> None:
        self._load.is_free(self)

    def _content(self) -> None:
        self._transport.write(self._load.content)
        self._sent = time.perf_counter()

    def _taken(self) -> None:
        self._load.latencies.append(time.perf_counter() - self._sent)
        self._load.is_free(self)


def _nothing() -> None:
    """A reply that asks for nothing more."""


async def main(job: SmtpJob) -> LoadResult:
    """The whole load."""
    load, loop = Load(job), asyncio.get_running_loop()
    for number in range(job.sessions):
        source = job.sources[number % len(job.sources)]
        await loop.create_connection(lambda: Session(load), "127.0.0.1", job.port, local_addr=(source, 0))
    while len(load.idle) < load.sessions:
        await asyncio.sleep(0.01)
    began_at, began = time.time(), time.perf_counter()
    for number in range(job.total):
        wait = began + number / job.rate - time.perf_counter() if job.rate else 0.0
        if wait > 0:
            await asyncio.sleep(wait)
        load.message_due()
    await load.done.wait()
    seconds = time.perf_counter() - began
    times = [each * 1000 for each in load.latencies] or [0.0]
    return LoadResult(len(times), seconds, percentile(times, 50), percentile(times, 99), began_at, dict(load.refused))


if __name__ == "__main__":
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=SmtpJob)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(main(wanted))))
