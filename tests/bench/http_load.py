"""HTTP load: ``python -m tests.bench.http_load < job.json``; see ``tests.bench.loads``.

Hand-written on a protocol, because a client that costs as much as the server would measure itself.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from itertools import cycle
from typing import cast

import msgspec
import uvloop

from tests.bench.loads import HttpJob, LoadResult
from tests.bench.machine import percentile


class Load:
    """What all connections share."""

    def __init__(self, job: HttpJob) -> None:
        self.job = job
        self.requests = cycle([_wire(job, *request) for request in job.requests])
        self.issued = 0
        self.latencies: list[float] = []
        self.refused: Counter[str] = Counter()
        self.began_at, self.began = time.time(), time.perf_counter()
        self.ended = self.began
        self.done = asyncio.Event()
        self.open = 0

    def next(self) -> tuple[bytes, float] | None:
        """The next request and when it is due; None when it is enough."""
        job, now = self.job, time.perf_counter()
        if (job.total and self.issued >= job.total) or now - self.began >= job.seconds:
            return None
        due = self.began + self.issued / job.rate if job.rate else now
        self.issued += 1
        return next(self.requests), due

    def result(self) -> LoadResult:
        """What was seen."""
        times = [seconds * 1000 for seconds in self.latencies] or [0.0]
        seconds = self.ended - self.began
        return LoadResult(
            len(self.latencies),
            seconds,
            percentile(times, 50),
            percentile(times, 99),
            self.began_at,
            dict(self.refused),
        )


class Client(asyncio.Protocol):
    """One kept connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._buffer = bytearray()
        self._end = -1
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports only look like asyncio's
        self._load.open += 1
        self._go_on()

    def data_received(self, data: bytes) -> None:
        """Collects one answer (RFC 9112 section 6.2: Content-Length says how long it is)."""
        self._buffer += data
        if self._end < 0:
            head = self._buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            length = self._buffer.lower().find(b"content-length:", 0, head)
            line_end = self._buffer.find(b"\r\n", length)
            self._end = head + 4 + (int(self._buffer[length + 15 : line_end]) if length >= 0 else 0)
        if len(self._buffer) >= self._end:
            self._answered(bytes(self._buffer[9:12]).decode())
            del self._buffer[: self._end]
            self._end = -1
            self._go_on()

    def _answered(self, status: str) -> None:
        load = self._load
        load.ended = time.perf_counter()
        if status.startswith("2"):
            load.latencies.append(load.ended - self._sent)
        else:
            load.refused[status] += 1

    def _go_on(self) -> None:
        found = self._load.next()
        if found is None:
            self._transport.close()
            return
        request, due = found
        wait = due - time.perf_counter()
        if wait > 0:
            asyncio.get_running_loop().call_later(wait, self._send, request)
        else:
            self._send(request)

    def _send(self, request: bytes) -> None:
        self._sent = time.perf_counter()
        self._transport.write(request)

    def connection_lost(self, exc: Exception | None) -> None:
        """The last one ends the load."""
        self._load.open -= 1
        if not self._load.open:
            self._load.done.set()


def _wire(job: HttpJob, method: str, path: str, body: str) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {job.key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n"
    return (head + "\r\n" + body).encode()


async def main(job: HttpJob) -> LoadResult:
    """The whole load."""
    load, loop = Load(job), asyncio.get_running_loop()
    for number in range(job.clients):
        source = job.sources[number % len(job.sources)]
        await loop.create_connection(lambda: Client(load), "127.0.0.1", job.port, local_addr=(source, 0))
    await load.done.wait()
    return load.result()


if __name__ == "__main__":
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=HttpJob)
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(main(wanted))))
