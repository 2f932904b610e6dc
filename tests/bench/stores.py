"""Houses that are full before they open: filled while nobody is served, kept between runs if wanted.

PostgreSQL is filled with nothing made durable, indexes are built when the rows are there, and then everything is
written out; the server that is measured afterwards starts on it with its own settings.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import asyncpg

from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.bench import seed
from tests.bench.figures import Run
from tests.bench.house import scratch
from tests.bench.machine import MIB
from tests.bench.seed import PATIENCE, add_mail, add_owners

#: on the way; the server has settings of its own.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "1GB",
    "maintenance_work_mem": "1GB",
    "work_mem": "256MB",
    "autovacuum": "off",
}
#: those that no constraint needs.
INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid = ANY ('{messages, emails, threads, events}'::regclass[])
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
#: a row of each table, its index entries and the log of it all.
BYTES_PER_EMAIL = 2900
#: left free on the disk.
SPARE_BYTES = 2048 * MIB
#: seconds between two words of progress.
WORD_SECONDS = 10.0
MIGRATIONS = Path(__file__).parents[2] / "sql" / "migrations"


@dataclass(frozen=True, slots=True)
class Fill:
    """What a house is filled with: inboxes of domains, and lots of mail, each dealt out to some of the inboxes."""

    name: str
    domains: int
    inboxes: int
    #: how many inboxes, taken one after the other, and how many emails they get in all.
    lots: Sequence[tuple[int, int]]
    text_bytes: int

    @property
    def bytes(self) -> int:
        """About what it takes on the disk while it is made."""
        return sum(count for _, count in self.lots) * (BYTES_PER_EMAIL + self.text_bytes)

    async def pour(self, connection: asyncpg.Connection) -> None:
        """Writes it all, indexes last."""
        await connection.execute("SET session_replication_role = replica")  # foreign keys hold: nobody need look
        indexes = await connection.fetch(INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        owners = iter(await add_owners(connection, self.domains, self.inboxes))
        for inboxes, count in self.lots:
            said = progress(self.name, count)
            await add_mail(connection, list(islice(owners, inboxes)), count, text_bytes=self.text_bytes, progress=said)
        for index in indexes:
            await connection.execute(index["definition"], timeout=PATIENCE)


@asynccontextmanager
async def filled(run: Run, fill: Fill) -> AsyncIterator[Path]:
    """A house's directory, for ``serving``: removed at the end, or kept for the next run where the reader wants it.

    Raises OSError when the disk is too small.
    """
    if run.keep is None:
        async with scratch() as directory:
            await _make(fill, directory)
            yield directory
        return
    directory = run.keep.resolve() / fill.name
    seal = directory / "seal"
    if not seal.exists() or seal.read_text() != _seal(fill):
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
        directory.mkdir(parents=True)
        await _make(fill, directory)
        seal.write_text(_seal(fill))
    yield directory


def _seal(fill: Fill) -> str:
    """What a kept store was made from; one made from anything else is made anew."""
    digest = hashlib.sha256(repr(fill).encode())
    for file in (*sorted(MIGRATIONS.glob("*.sql")), Path(seed.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


async def _make(fill: Fill, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < fill.bytes + SPARE_BYTES:
        raise OSError(
            f"{fill.name} needs {fill.bytes / MIB:,.0f} MiB in {directory.parent}, {free / MIB:,.0f} are free"
        )
    server = EmbeddedPostgres(directory / "data", settings=SETTINGS)
    await server.start()
    try:
        await migrate(server.url)
        connection = await asyncpg.connect(server.url)
        try:
            await fill.pour(connection)
            await connection.execute("CHECKPOINT", timeout=PATIENCE)
        finally:
            await connection.close()
    finally:
        await server.stop()
    await asyncio.to_thread(os.sync)


def progress(what: str, total: int) -> Callable[[int], None]:
    """Says now and then how far it is and how long it will take; quiet about what is done in a moment."""
    began = last = time.monotonic()

    def heard(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < WORD_SECONDS and (done < total or last == began):
            return
        last, rate = now, done / (now - began)
        print(f"    {what}: {done:,}, {rate:,.0f}/s, {(total - done) / rate:.0f} s to go", file=sys.stderr, flush=True)

    return heard
