"""Other servers that take the same mail on the same machine, where they are installed.

* bare: aiosmtpd on uvloop, mail thrown away: what the listener alone allows.
* Postfix, with no checks: every message is flushed into its queue before the 250, then discarded.
* Postfix with policyd-spf, OpenDKIM and OpenDMARC: the same, judged.
* Haraka with SPF and DKIM: judged, and flushed into a file of its own before the 250.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import mail
from tests.bench.figures import Note, Run
from tests.bench.haraka import HARAKA, judging_haraka
from tests.bench.machine import MIB, memory_bytes, tree
from tests.bench.milters import PROGRAMS, judging_postfix
from tests.bench.servers import POLL_SECONDS, START_SECONDS, greets, running
from tests.support.ports import free_port
from tests.support.postfix import Postfix, missing, run_postfix

GROUP = "inbound"
#: the yardstick.
BARE = "bare aiosmtpd"
#: seconds for a queue to become empty.
DRAIN_SECONDS = 120.0
#: the most that Postfix may do at once, as on a machine of its own.
POSTFIX_SETTINGS = "smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n"


@dataclass(frozen=True)
class Peer:
    """A server that takes mail: ours or another."""

    name: str
    #: processes; what is below them is theirs as well.
    pids: Sequence[int]
    port: int
    #: waits until the server is done with what it took, so that all of its cost is counted.
    settled: Callable[[], Awaitable[None]]

    def memory_mib(self) -> float:
        """Proportional set size of all of it."""
        return memory_bytes(set().union(*(tree(pid) for pid in self.pids))) / MIB


async def at_once() -> None:
    """For servers that are done when they say 250."""


@asynccontextmanager
async def all_present(run: Run, zone: mail.Zone, nameserver: str) -> AsyncIterator[list[Peer]]:
    """Every peer of this machine, running; what is missing is noted. ``zone``: what ``nameserver`` knows."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(bare())]
        if problem := missing():
            run.record(Note(GROUP, f"no comparison with Postfix: {problem}"))
        else:
            found.append(await stack.enter_async_context(postfix()))
            present = [run.needs(GROUP, *each) for each in PROGRAMS]
            if all(present):
                found.append(await stack.enter_async_context(judging(zone)))
        if run.needs(GROUP, *HARAKA):
            found.append(await stack.enter_async_context(haraka(nameserver)))
        yield found


@asynccontextmanager
async def bare() -> AsyncIterator[Peer]:
    """aiosmtpd as it comes."""
    port = free_port("127.0.0.1")
    async with running((sys.executable, "-m", "tests.bench.bare_listener", str(port)), greets(port)) as pid:
        yield Peer(BARE, [pid], port, at_once)


@asynccontextmanager
async def postfix() -> AsyncIterator[Peer]:
    """Postfix that takes mail for our domain, and drops it once it is in the queue."""
    async with run_postfix({mail.DOMAIN: "discard:"}, POSTFIX_SETTINGS) as server:
        yield Peer("Postfix, no checks", [master_of(server)], server.port, lambda: emptied(server))


@asynccontextmanager
async def judging(zone: mail.Zone) -> AsyncIterator[Peer]:
    """The same Postfix with everybody who judges."""
    async with judging_postfix(zone, {mail.DOMAIN: "discard:"}, POSTFIX_SETTINGS) as (server, milters):
        pids = [master_of(server), *milters]
        yield Peer("Postfix, SPF DKIM DMARC", pids, server.port, lambda: emptied(server))


@asynccontextmanager
async def haraka(nameserver: str) -> AsyncIterator[Peer]:
    """Haraka with one process."""
    async with judging_haraka(nameserver) as (pid, port):
        yield Peer("Haraka, SPF DKIM", [pid], port, at_once)


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


async def answers(port: int) -> None:
    """Waits until a server greets."""
    async with asyncio.timeout(START_SECONDS):
        while not await greets(port)():
            await asyncio.sleep(POLL_SECONDS)
