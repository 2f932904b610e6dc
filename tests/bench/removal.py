"""``python -m tests.bench.removal``: what a neighbour notices while a large domain goes, and what becomes of the room.

A domain with ten inboxes is filled and removed; meanwhile mail is filed for another tenant, fifty a second, and each
commit is timed. Then as much mail comes again.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

import asyncpg

from clawmail.base import log
from clawmail.core.retention import Retention
from clawmail.store import accounts
from clawmail.store.db import Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.bench.backup import fill, furnish
from tests.support import mail
from tests.support.tenants import Tenant, add_tenant

RAW = b"From: a@far.test\r\nSubject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 270
PACE_SECONDS = 0.02
ALONE_SECONDS = 15.0


async def file_until(db: Database, tenant: Tenant, stop: asyncio.Event) -> list[float]:
    """Files mail at a steady pace; the seconds of each commit."""
    taken: list[float] = []
    while not stop.is_set():
        began = time.monotonic()
        await mail.file(db, tenant, RAW)
        taken.append(time.monotonic() - began)
        await asyncio.sleep(PACE_SECONDS)
    return taken


def told(what: str, taken: list[float]) -> None:
    """Prints the percentiles of ``taken``."""
    cut = quantiles(taken, n=100)
    print(f"{what:16} {len(taken):6} commits, p50 {cut[49] * 1000:6.1f} ms, p99 {cut[98] * 1000:6.1f} ms", flush=True)


async def main(messages: int) -> None:
    """One round on a server of its own."""
    directory = Path(tempfile.mkdtemp(prefix="clawmail-bench-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "var")
    db = Database(server.url)
    try:
        await server.start()
        await migrate(server.url)
        await db.open()
        neighbour = await add_tenant(db, "neighbour.test")
        connection = await asyncpg.connect(server.url, command_timeout=4 * 3600)

        async def grown(what: str) -> None:
            size = await connection.fetchval("SELECT pg_database_size(current_database())")
            print(f"{what:16} {size / 1e6:8,.0f} MB", flush=True)

        async def refill() -> None:
            await furnish(server.url)
            await fill(connection, 0, messages, ends=datetime.now(UTC), days=1)

        await refill()
        await grown("filled")
        for what in ("alone", "beside a removal"):
            stop = asyncio.Event()
            filing = asyncio.create_task(file_until(db, neighbour, stop))
            if what == "alone":
                await asyncio.sleep(ALONE_SECONDS)
            else:
                domain = await connection.fetchval("SELECT id FROM domains WHERE name = 'bench.test'")
                async with db.transaction() as conn:
                    await accounts.remove_domain(conn, domain, datetime.now(UTC))
                began = time.monotonic()
                emails = await Retention(db, mail_days=0, event_days=0).empty_removed()
                print(f"removed          {emails:,} emails in {time.monotonic() - began:.1f} s", flush=True)
            stop.set()
            told(what, await filing)
        await connection.execute("VACUUM")
        await grown("removed")
        await refill()
        await grown("filled again")
        await connection.close()
    finally:
        await db.close()
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.removal")
    parser.add_argument("--messages", type=int, default=50_000)
    options = parser.parse_args()
    log.configure("error", "text")
    asyncio.run(main(options.messages))
