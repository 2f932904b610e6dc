"""The server under test: ``clawmail serve`` as it is shipped, with the embedded PostgreSQL and the limits off.

Beside the ports, only two settings differ from the defaults: limits are off, and inboxes hold a terabyte. What is
sent out goes to loopback addresses, which has to be allowed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from clawmail.store.embedded import EmbeddedPostgres
from tests.bench import mail
from tests.bench.machine import MIB, cpu_seconds, memory_bytes, postgres_of, tree
from tests.support.daemon import Daemon, start_daemon
from tests.support.ports import free_port

QUOTA_BYTES = 1 << 40
#: seconds after which a queue that does not become empty is a failure.
DRAIN_SECONDS = 300.0
POLL_SECONDS = 0.05
#: what is on its way to a black hole at the end need not be waited for.
STOP = {"grace_seconds": 1}

FURNISHED = "SELECT EXISTS (SELECT FROM inboxes WHERE address = $1 AND removed_at IS NULL)"
UNSETTLED = """
    SELECT EXISTS (SELECT FROM deliveries WHERE state IN ('queued', 'deferred') AND destination <> $1)
        OR EXISTS (SELECT FROM deliveries WHERE state = 'leased' AND destination <> $1)
"""


@dataclass
class House:
    """A running server with one trusted domain and inbox."""

    daemon: Daemon
    directory: Path
    smtp_port: int
    api_port: int

    @property
    def pid(self) -> int:
        """Its first process; PostgreSQL and workers are below it."""
        return self.daemon.process.pid

    @property
    def database_url(self) -> str:
        """Its PostgreSQL."""
        return EmbeddedPostgres(self.directory / "data").url

    def cpu_seconds(self) -> float:
        """CPU used so far, PostgreSQL included."""
        return cpu_seconds([self.pid])

    def memory_mib(self) -> float:
        """Memory of everything, PostgreSQL included."""
        return memory_bytes(tree(self.pid)) / MIB

    def own_memory_mib(self) -> float:
        """Memory without PostgreSQL."""
        return memory_bytes(tree(self.pid) - postgres_of(self.pid)) / MIB

    async def command(self, *words: str) -> Any:
        """``clawmail …`` for this house; what it printed as JSON."""
        return await command(*words, "--config", str(self.daemon.config), "--json")

    async def key(self, address: str = mail.RECIPIENT) -> str:
        """The credential of an inbox, which is made if it is missing."""
        made = await self.command("key", "create", address)
        return f"{address}:{made['api_key']}"

    @asynccontextmanager
    async def sql(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the benchmark's own."""
        connection = await asyncpg.connect(self.database_url)
        try:
            yield connection
        finally:
            await connection.close()

    async def drained(self, except_for: str = "") -> None:
        """Waits until nothing is on its way any more, but to the destination ``except_for``."""
        async with self.sql() as connection, asyncio.timeout(DRAIN_SECONDS):
            while await connection.fetchval(UNSETTLED, except_for):
                await asyncio.sleep(POLL_SECONDS)


async def command(*words: str) -> Any:
    """Runs ``clawmail``; what it printed as JSON."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "clawmail", *words, stdout=pipe, stderr=pipe)
    printed, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"clawmail {' '.join(words)}: {said.decode(errors='replace')}")
    return json.loads(printed)


def settings_of(directory: Path, nameserver: str, smtp: int, api: int) -> dict[str, dict[str, Any]]:
    """The configuration, see the module's text."""
    return {
        "server": {"app_domain": mail.DOMAIN, "public_ip": "192.0.2.1", "data_dir": str(directory / "data")} | STOP,
        "smtp": {"listen": [f"127.0.0.1:{smtp}"]},
        "api": {"listen": [f"127.0.0.1:{api}"]},
        "dns": {"nameservers": [nameserver]},
        "outbound": {"allow_private": True},
        "limits": {"enabled": False},
        "inbox": {"storage_quota_bytes": QUOTA_BYTES},
    }


@asynccontextmanager
async def scratch() -> AsyncIterator[Path]:
    """A directory on the disk, removed at the end; PostgreSQL's account may pass through it."""
    directory = Path(tempfile.mkdtemp(prefix="clawmail-bench-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


@asynccontextmanager
async def serving(
    directory: Path, nameserver: str, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> AsyncIterator[House]:
    """A server in ``directory``; ``changes`` are put over its settings."""
    smtp, api = free_port("127.0.0.1"), free_port("127.0.0.1")
    settings = settings_of(directory, nameserver, smtp, api)
    for section, values in (changes or {}).items():
        settings[section] = {**settings.get(section, {}), **values}
    daemon = await start_daemon(settings, directory)
    daemon.deaf = True
    try:
        yield House(daemon, directory, smtp, api)
    finally:
        await daemon.stop()


@asynccontextmanager
async def furnished(
    nameserver: str, changes: Mapping[str, Mapping[str, Any]] | None = None, *, directory: Path | None = None
) -> AsyncIterator[House]:
    """A server with a trusted domain and an inbox: a new one, or one in ``directory`` that may have them already."""
    async with AsyncExitStack() as stack:
        if directory is None:
            directory = await stack.enter_async_context(scratch())
        house = await stack.enter_async_context(serving(directory, nameserver, changes))
        async with house.sql() as connection:
            present = await connection.fetchval(FURNISHED, mail.RECIPIENT)
        if not present:
            await house.command("domain", "add", mail.DOMAIN, "--trusted")
            await house.command("inbox", "add", mail.RECIPIENT)
        yield house
