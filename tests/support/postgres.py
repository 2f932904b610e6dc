"""A real PostgreSQL for tests: one server a session, one database a test, cloned from a migrated template."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate

TEMPLATE = "clawmail_template"
#: tests of logic need no disk: durability has tests of its own, on the daemon as it is shipped.
WITHOUT_DISK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
#: what it says of clients that tests cut off would come out of the log of ours, in the middle of what a command prints.
SILENT = {"log_min_messages": "panic"}
#: files in memory, and the room there has to be: containers often have 64 MB, which is no room at all.
MEMORY, ROOM_BYTES = Path("/dev/shm"), 2 << 30


@dataclass
class TestServer:
    """A running server with a migrated template database."""

    __test__ = False

    server: EmbeddedPostgres

    def url_of(self, database: str) -> str:
        """Where to connect for one database of it."""
        return f"postgresql://postgres@/{database}?host={self.server.socket_directory}"

    async def create(self) -> str:
        """A fresh database; returns its URL."""
        name = f"test_{secrets.token_hex(6)}"
        await self._admin(f'CREATE DATABASE "{name}" TEMPLATE "{TEMPLATE}" STRATEGY file_copy')
        return self.url_of(name)

    async def drop(self, url: str) -> None:
        """Removes a database made by ``create``."""
        name = url.removeprefix("postgresql://postgres@/").partition("?")[0]
        await self._admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _admin(self, statement: str) -> None:
        connection = await asyncpg.connect(self.server.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def new_server_directory() -> Path:
    """An empty directory for a server's files: in memory where there is room, else wherever temporary files go.

    A database is three hundred files, made and removed for every test: that takes ten times as long on a disk.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    directory = Path(tempfile.mkdtemp(prefix="clawmail-test-", dir=MEMORY if roomy else None))
    directory.chmod(0o755)  # the server may run under another account
    return directory


async def start_test_server(directory: Path) -> TestServer:
    """Starts the server under ``directory`` and makes the template."""
    server = EmbeddedPostgres(directory, settings={**WITHOUT_DISK, **SILENT, "max_wal_size": "128MB"})
    await server.start()
    made = TestServer(server)
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
    finally:
        await connection.close()
    await migrate(made.url_of(TEMPLATE))
    return made
