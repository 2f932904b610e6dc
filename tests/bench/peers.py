"""Other servers that take the same mail on the same machine, where they are installed.

* bare: aiosmtpd on uvloop, mail thrown away: what the listener alone allows.
* Postfix, with no checks: every message is flushed into its queue before the 250, then discarded.
* Haraka, with no checks: every message is flushed into a file of its own before the 250.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import loads, mail
from tests.bench.figures import Note, Run
from tests.bench.house import POLL_SECONDS, scratch
from tests.support.daemon import free_port
from tests.support.postfix import Postfix, missing, run_postfix

START_SECONDS = 20.0
#: seconds for a queue to become empty.
DRAIN_SECONDS = 120.0
#: the most that Postfix may do at once, as on a machine of its own.
POSTFIX_SETTINGS = "smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n"

HARAKA_QUEUE = """
const fs = require('node:fs')
const path = require('node:path')
exports.hook_queue = function (next, connection) {
  const txn = connection.transaction
  const file = fs.createWriteStream(path.join(__dirname, '..', 'mail', txn.uuid), { flush: true })
  file.on('close', () => next(OK))
  txn.message_stream.pipe(file)
}
"""


@dataclass(frozen=True)
class Peer:
    """A server that takes mail: ours or another."""

    name: str
    pid: int
    port: int
    #: waits until the server is done with what it took, so that all of its cost is counted.
    settled: Callable[[], Awaitable[None]]


async def at_once() -> None:
    """For servers that are done when they say 250."""


@asynccontextmanager
async def all_present(run: Run) -> AsyncIterator[list[Peer]]:
    """Every peer of this machine, running; what is missing is noted."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(bare())]
        if problem := missing():
            run.record(Note("inbound", f"no comparison with Postfix: {problem}"))
        else:
            found.append(await stack.enter_async_context(postfix()))
        if run.needs("inbound", "haraka", "npm install -g Haraka"):
            found.append(await stack.enter_async_context(haraka()))
        yield found


@asynccontextmanager
async def bare() -> AsyncIterator[Peer]:
    """aiosmtpd as it comes."""
    port = free_port("127.0.0.1")
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.bare_listener", str(port))
    try:
        await answers(port)
        yield Peer("bare aiosmtpd", process.pid, port, at_once)
    finally:
        await loads.end(process)


@asynccontextmanager
async def postfix() -> AsyncIterator[Peer]:
    """Postfix that takes mail for our domain, and drops it once it is in the queue."""
    async with run_postfix({mail.DOMAIN: "discard:"}, POSTFIX_SETTINGS) as server:
        yield Peer("Postfix, no checks", master_of(server), server.port, lambda: emptied(server))


def master_of(server: Postfix) -> int:
    """The process above all others of a Postfix."""
    return int((server.home / "queue" / "pid" / "master.pid").read_text())


async def emptied(server: Postfix) -> None:
    """Waits until nothing is in the queue."""
    async with asyncio.timeout(DRAIN_SECONDS):
        while await asyncio.to_thread(_waits, server.home / "queue"):
            await asyncio.sleep(POLL_SECONDS)


def _waits(queue: Path) -> bool:
    folders = (queue / name for name in ("maildrop", "incoming", "active", "deferred"))
    return any(files for folder in folders for _, _, files in os.walk(folder))


@asynccontextmanager
async def haraka() -> AsyncIterator[Peer]:
    """Haraka with one process and one plugin, which keeps what it takes."""
    program = shutil.which("haraka")
    assert program is not None
    port = free_port("127.0.0.1")
    async with scratch() as home:
        silent = asyncio.subprocess.DEVNULL
        installing = await asyncio.create_subprocess_exec(program, "-i", str(home), stdout=silent, stderr=silent)
        await installing.wait()
        (home / "mail").mkdir()
        (home / "config" / "smtp.ini").write_text(f"listen=127.0.0.1:{port}\nnodes=0\n")
        (home / "config" / "plugins").write_text("rcpt_to.in_host_list\nkeep\n")
        (home / "config" / "host_list").write_text(f"{mail.DOMAIN}\n")
        (home / "config" / "loglevel").write_text("ERROR\n")
        (home / "config" / "me").write_text(f"mx.{mail.DOMAIN}\n")
        (home / "plugins" / "keep.js").write_text(HARAKA_QUEUE)
        process = await asyncio.create_subprocess_exec(program, "-c", str(home), stdout=silent, stderr=silent)
        try:
            await answers(port)
            yield Peer("Haraka, no checks", process.pid, port, at_once)
        finally:
            await loads.end(process)


async def answers(port: int) -> None:
    """Waits until a server greets."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            await reader.readline()
            writer.close()
            return
