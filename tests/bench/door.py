"""The door by itself, with a receiver that throws mail away: ``python -m tests.bench.door``.

Beside it, in turns, a bare aiosmtpd listener on the same loop. Then a message of 25 MiB, the memory of 2,000 idle
sessions, and what a normal sender keeps of its throughput beside those and 200 that drip. Needs ``smtp-source``
(Debian: apt-get install postfix) and 5,000 open files. Prints one line for each figure.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import uvloop
from aiosmtpd.smtp import SMTP

from clawmail.base import log
from tests.bench.bare_listener import Sink
from tests.support.smtp import ScriptedReceiver, door_settings, open_door

ENVELOPE = ("-f", "a@sender.test", "-t", "agent@example.test", "-l", "5120", "-s", "10")
MESSAGES = 4000
ROUNDS = 3
IDLE, DRIPPING = 2000, 200
LARGE_TURNS = 5

#: sends messages of 25 MiB and waits for their replies; a process of its own, so that its cost is not the door's.
LARGE = f"""
import socket, sys
message = (b"A" * 76 + b"\\r\\n") * (26_214_400 // 78)
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
replies = connection.makefile("rb")
replies.readline()
turn = (b"MAIL FROM:<>", b"RCPT TO:<agent@example.test>", b"DATA", message + b".")
for command in (b"HELO x", *turn * {LARGE_TURNS}):
    connection.sendall(command + b"\\r\\n")
    assert replies.readline()[:1] in b"23"
"""

#: the crowd is a process of its own, so that its cost is not the door's.
CROWD = f"""
import asyncio, sys
port = int(sys.argv[1])
async def meet(*commands):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await reader.readline()
    for command in commands:
        writer.write(command + b"\\r\\n")
        await reader.readline()
    return writer
async def drip():
    while True:
        writer = await meet(b"HELO x", b"MAIL FROM:<>", b"RCPT TO:<agent@example.test>", b"DATA")
        while not writer.transport.is_closing():
            writer.write(b"xxxxxxxxxx")
            await asyncio.sleep(1)
async def main():
    idle = []
    while len(idle) < {IDLE}:
        idle += await asyncio.gather(*(meet(b"HELO x") for _ in range(100)))
    print("idle", flush=True)
    sys.stdin.readline()
    dripping = [asyncio.create_task(drip()) for _ in range({DRIPPING})]
    await asyncio.sleep(2)
    print("dripping", flush=True)
    await asyncio.gather(*dripping)
asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[int]:
    """aiosmtpd as it comes; its port."""
    loop = asyncio.get_running_loop()
    handler = Sink()
    server = await loop.create_server(lambda: SMTP(handler, hostname="bare.test", loop=loop), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def load(port: int, *options: str) -> tuple[float, float]:
    """One run: messages a second, and CPU seconds of this process for a thousand of them."""
    cpu, began = time.process_time(), time.perf_counter()
    command = ("smtp-source", *ENVELOPE, "-m", str(MESSAGES), *options, f"127.0.0.1:{port}")
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise RuntimeError("smtp-source failed")
    return MESSAGES / (time.perf_counter() - began), (time.process_time() - cpu) / MESSAGES * 1000


async def in_turns(door: int, other: int, *options: str) -> None:
    """The door and its peer, one after the other."""
    runs: dict[str, list[tuple[float, float]]] = {"door": [], "bare aiosmtpd": []}
    for _ in range(ROUNDS):
        runs["bare aiosmtpd"].append(await load(other, *options))
        runs["door"].append(await load(door, *options))
    for name, figures in runs.items():
        rates, costs = zip(*figures, strict=True)
        way = "kept connections" if options else "new connections"
        print(
            f"{name}, {way}: {statistics.median(rates):.0f}/s ({min(rates):.0f} to {max(rates):.0f}),"
            f" {statistics.median(costs):.2f} CPU seconds per 1,000"
        )


async def large(port: int) -> None:
    """CPU of messages of 25 MiB, from the socket to the receiver."""
    cpu = time.process_time()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LARGE, str(port))
    assert await process.wait() == 0
    print(f"a message of 25 MiB: {(time.process_time() - cpu) / LARGE_TURNS * 1000:.0f} ms of CPU")


def memory_kib() -> int:
    """Proportional set size of this process."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


async def crowd(port: int) -> None:
    """A normal sender alone, and beside the crowd."""
    alone = statistics.median([(await load(port))[0] for _ in range(ROUNDS)])
    before = memory_kib()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", CROWD, str(port), stdin=pipe, stdout=pipe)
    assert process.stdin is not None and process.stdout is not None
    await process.stdout.readline()
    print(f"an idle session: {(memory_kib() - before) / IDLE:.1f} KiB")
    process.stdin.write(b"\n")
    await process.stdout.readline()
    beside = statistics.median([(await load(port))[0] for _ in range(ROUNDS)])
    print(f"a normal sender: {alone:.0f}/s alone, {beside:.0f}/s beside {IDLE} idle and {DRIPPING} dripping sessions")
    process.kill()
    await process.wait()


async def main() -> None:
    """Everything, one after the other."""
    log.configure("error")
    settings = door_settings(Path(tempfile.mkdtemp(prefix="clawmail-bench-")))
    async with bare() as other, open_door(settings, ScriptedReceiver(keep=False)) as door:
        address = door.addresses[0]
        await in_turns(address[1], other)
        await in_turns(address[1], other, "-d")
        await large(address[1])
        await crowd(address[1])


if __name__ == "__main__":
    uvloop.run(main())
