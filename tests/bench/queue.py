"""The queue at size: what a claim takes among a million deliveries, and what a hundred thousand cost the process."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from clawmail.base.ids import new_id
from clawmail.core.outbound.queue import CLAIM_ROWS
from clawmail.store import deliveries
from clawmail.store.db import Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.bench import mail
from tests.bench.figures import Figure, Run, at_most, one
from tests.bench.house import furnished, scratch
from tests.bench.machine import Spread, percentile
from tests.bench.seed import add_owners, add_queue, owner_of
from tests.bench.world import BLACK_HOLE_ADDRESS, black_hole, domains
from tests.support.daemon import free_port
from tests.support.dns_server import DnsServerThread

GROUP = "queue"
DESTINATIONS, TENANTS = 500, 50
#: what a site takes that has been doing well.
ROOM = 20
#: the queue is looked at every five seconds when nobody wakes it; twice that, and it is at work.
SETTLE_SECONDS = 10.0


async def run(run: Run) -> None:
    """Every figure of this file."""
    await _claims(run, run.pick(100_000, 1_000_000))
    await _memory(run, run.pick(20_000, 100_000))


async def _claims(run: Run, queued: int) -> None:
    async with scratch() as directory:
        server = EmbeddedPostgres(directory)
        await server.start()
        db = Database(server.url)
        try:
            await migrate(server.url)
            await db.open()
            async with db.connection() as connection:
                owners = await add_owners(connection, TENANTS, TENANTS)
                await add_queue(connection, owners, queued, domains(DESTINATIONS), b"seed")
            waits = await _claim_times(db, run.pick(50, 300))
        finally:
            await db.close()
            await server.stop()
    spread = Spread(percentile(waits, 50), min(waits), max(waits))
    run.record(Figure(GROUP, f"claim of {CLAIM_ROWS} of {queued:,} deliveries", "ms", spread, goal=at_most(5)))
    run.record(Figure(GROUP, f"claim of {CLAIM_ROWS} of {queued:,} deliveries, p99", "ms", one(percentile(waits, 99))))


async def _claim_times(db: Database, count: int) -> list[float]:
    """Milliseconds of each claim, the first few left out: they read the indexes from the disk."""
    owner, rings, waits = new_id(), deliveries.Rings(), []
    for _ in range(count + 5):
        now = datetime.now(UTC)
        began = time.perf_counter()
        async with db.connection() as connection:
            await deliveries.claim(
                connection,
                owner=owner,
                now=now,
                lease_until=now + timedelta(seconds=900),
                limit=CLAIM_ROWS,
                rings=rings,
                rooms={},
                other_room=ROOM,
            )
        waits.append((time.perf_counter() - began) * 1000)
    return waits[5:]


async def _memory(run: Run, queued: int) -> None:
    """All of it for hosts that take connections and never answer: as much under way as can be, and the rest waits."""
    names = domains(DESTINATIONS)
    zone = {name: {"MX": [f"10 mx.{name}"]} for name in names}
    zone |= {f"mx.{name}": {"A": [BLACK_HOLE_ADDRESS]} for name in names}
    port = free_port(BLACK_HOLE_ADDRESS)
    with DnsServerThread(zone) as dns:
        async with (
            black_hole(port),
            furnished(dns.nameserver, {"outbound": {"allow_private": True, "port": port}}) as house,
        ):
            await asyncio.sleep(1)
            idle = house.own_memory_mib()
            async with house.sql() as connection:
                owner = await owner_of(connection, mail.RECIPIENT)
                await add_queue(connection, [owner], queued, names, mail.unsigned())
            await asyncio.sleep(SETTLE_SECONDS)
            loaded = house.own_memory_mib()
    name = f"memory of {queued:,} queued deliveries in the process"
    run.record(Figure(GROUP, name, "MiB", one(loaded - idle), goal=at_most(200), memory_mib=loaded))
