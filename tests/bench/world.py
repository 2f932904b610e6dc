"""Where mail goes to: domains with MX hosts on loopback addresses, Postfix's smtp-sink behind them, a black hole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.bench import loads
from tests.bench.peers import answers
from tests.support.ports import free_port

SMTP_SINK = ("smtp-sink", "Debian: apt-get install postfix")
BLACK_HOLE_ADDRESS = "127.0.0.66"
#: connections that may wait at the sink.
BACKLOG = 1000
#: connections open at once: a sender keeps some to each of hundreds of destinations.
SESSIONS = 4000


def domains(count: int) -> list[str]:
    """Names of that many destinations."""
    return [f"d{number}.far.bench" for number in range(count)]


def host_of(number: int) -> str:
    """A loopback address for each destination."""
    return f"127.1.{number // 250}.{number % 250 + 1}"


def zone_of(names: Sequence[str], *, apart: bool = True) -> dict[str, dict[str, list[str]]]:
    """Each name with an MX host of its own; ``apart``: on addresses of their own, too."""
    zone: dict[str, dict[str, list[str]]] = {}
    for number, name in enumerate(names):
        zone[name] = {"MX": [f"10 mx.{name}"]}
        zone[f"mx.{name}"] = {"A": [host_of(number) if apart else "127.0.0.1"]}
    return zone


@asynccontextmanager
async def sink(host: str = "0.0.0.0", port: int = 0, *, nice: int = 0) -> AsyncIterator[int]:
    """smtp-sink, which takes everything and keeps nothing; its port."""
    port = port or free_port("127.0.0.1", BLACK_HOLE_ADDRESS)
    silent = asyncio.subprocess.DEVNULL
    account = ["-u", "nobody"] if os.geteuid() == 0 else []  # it refuses to work as root
    command = ["nice", "-n", str(nice), "smtp-sink", *account, "-m", str(SESSIONS), "-h", "mx.far.bench"]
    command += [f"{host}:{port}", str(BACKLOG)]
    process = await asyncio.create_subprocess_exec(*command, stdout=silent, stderr=silent)
    try:
        await answers(port)
        yield port
    finally:
        await loads.end(process)


@asynccontextmanager
async def black_hole(port: int) -> AsyncIterator[None]:
    """A host that takes connections and never says a word."""
    visitors: list[asyncio.StreamWriter] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visitors.append(writer)
        await reader.read()

    server = await asyncio.start_server(say_nothing, BLACK_HOLE_ADDRESS, port)
    try:
        yield
    finally:
        server.close()
        for visitor in visitors:
            visitor.transport.abort()
