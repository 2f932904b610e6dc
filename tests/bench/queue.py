"""The queue at size: what a claim takes among a million deliveries, and what a hundred thousand cost the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from clawmail.base.ids import new_id
from clawmail.core.outbound.queue import CLAIM_ROWS
from clawmail.model.delivery import ClaimedDelivery, Settlement, State
from clawmail.model.events import EventType
from clawmail.store import deliveries, destinations
from clawmail.store.db import Connection, Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.bench import mail
from tests.bench.figures import Figure, Run, at_most, one
from tests.bench.house import furnished, scratch
from tests.bench.machine import Spread, cpu_seconds, percentile
from tests.bench.seed import add_queue, owner_of
from tests.bench.world import BLACK_HOLE_ADDRESS, black_hole, domains
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port

GROUP = "queue"
DESTINATIONS = 500
#: what a site takes that has been doing well.
ROOM = 20
#: after so long a queue that was woken is at work on all that it takes at a time.
SETTLE_SECONDS = 5.0
#: claims that are not counted: they read the indexes from the disk, and PostgreSQL still looks which plan to keep.
WARM_UP = 50
#: of so many results in the churn, one is "not now".
DEFERRED_OF = 5
DEFERRED = timedelta(minutes=5)
LEASE = timedelta(seconds=900)

Claimed = tuple[ClaimedDelivery, ...]
#: what becomes of what was claimed.
After = Callable[[Claimed], Awaitable[None]]

# Ids of messages and deliveries are the same, and sort by time, as ids do.
MESSAGES = """
    INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, reference_ids, subject, from_address, from_name,
                          envelope_from, to_addresses, cc_addresses, bcc_addresses, reply_to, attachments, received_at)
    SELECT (lpad(to_hex(1767225600000 + n), 12, '0') || '70008' || right(md5(n::text), 15))::uuid, 'x', '', 1, '', '{}',
           '', '', '', '', '{}', '{}', '{}', '{}', '[]', now()
    FROM generate_series(1, $1::integer) AS n
"""
# Destinations, tenants and what is due are strewn over the rows independently of each other and of time.
DELIVERIES = """
    INSERT INTO deliveries (id, organisation_id, domain_id, inbox_id, email_id, message_id, kind, envelope_from,
                            recipient, destination, state, next_attempt_at, created_at)
    SELECT id, md5('o' || tenant)::uuid, md5('d' || tenant)::uuid, md5('i' || tenant)::uuid, id, id, 'send',
           'agent@' || tenant || '.bench', n || '@' || destination, destination, 'queued',
           now() + make_interval(hours => CASE WHEN due THEN -1 ELSE 3 END, secs => n * 0.00025),
           now() - interval '1 hour'
    FROM (SELECT id, n, 'd' || abs(hashint4extended(n, 1) % $1) || '.far.bench' AS destination,
                 abs(hashint4extended(n, 2) % $2) AS tenant, abs(hashint4extended(n, 3) % 1000) < 10 * $3 AS due
          FROM (SELECT id, row_number() OVER (ORDER BY id)::integer AS n FROM messages) AS numbered) AS strewn
    ORDER BY n
"""
# The largest part of an hour goes by between two vacuums of a table that nobody has set to be vacuumed more often.
UNSWEPT = "ALTER TABLE deliveries SET (autovacuum_enabled = false)"


@dataclass(frozen=True, slots=True)
class Shape:
    """To whom, by whom, and how much of it is due."""

    name: str
    destinations: int
    tenants: int
    due_percent: int = 100


USUAL = Shape("500 destinations, 50 tenants", DESTINATIONS, 50)
SHAPES = (
    Shape("one destination, one tenant", 1, 1),
    USUAL,
    Shape("10,000 destinations, 50 tenants", 10_000, 50),
    Shape("500 destinations, 500 tenants", DESTINATIONS, 500),
    Shape("1 % of them due", DESTINATIONS, 50, due_percent=1),
)


async def run(run: Run) -> None:
    """Every figure of this file."""
    await _claims(run, run.pick(50_000, 1_000_000))
    await _memory(run, run.pick(20_000, 100_000))


async def _claims(run: Run, queued: int) -> None:
    async with scratch() as directory:
        server = EmbeddedPostgres(directory)
        await server.start()
        try:
            await migrate(server.url)
            async with _connection(server) as connection:
                await connection.execute(MESSAGES, queued)
            for shape in SHAPES:
                async with _connection(server) as connection:
                    await _fill(connection, shape)
                    claimer = await Claimer.on(connection, shape)
                    cost = await claimer.claims(run.pick(50, 200), claimer.give_back)
                    _record(run, f"of {queued:,} deliveries, {shape.name}", cost)
            async with _connection(server) as connection:
                await _churn(run, connection, queued)
        finally:
            await server.stop()


@asynccontextmanager
async def _connection(server: EmbeddedPostgres) -> AsyncIterator[Connection]:
    """A new one for each shape, like those of the queue: its statements are planned once."""
    db = Database(server.url, pool_size=1, timeout_seconds=600, plans_once=True)
    await db.open()
    try:
        async with db.connection() as connection:
            yield connection
    finally:
        await db.close()


async def _churn(run: Run, connection: Connection, queued: int) -> None:
    await _fill(connection, USUAL)
    await connection.execute(UNSWEPT)
    claimer = await Claimer.on(connection, USUAL)
    tried = await claimer.churn(run.pick(200, 1_500))
    name = f"of {queued:,} deliveries, after {tried:,} were tried and nothing was vacuumed"
    _record(run, name, await claimer.claims(run.pick(50, 200), claimer.settle))


async def _fill(connection: Connection, shape: Shape) -> None:
    await connection.execute("TRUNCATE deliveries, events, destinations")
    await connection.execute(DELIVERIES, shape.destinations, shape.tenants, shape.due_percent)
    await connection.execute("VACUUM ANALYZE")


def _record(run: Run, what: str, cost: tuple[list[float], float]) -> None:
    waits, cpu = cost
    spread = Spread(percentile(waits, 50), min(waits), max(waits))
    name = f"claim of {CLAIM_ROWS} {what}"
    run.record(Figure(GROUP, name, "ms", spread, goal=at_most(5), cpu_seconds_per_1000=one(cpu / len(waits) * 1000)))


class Claimer:
    """A process that has been at work for a while: it knows the sites, and how much each of them takes now."""

    def __init__(self, connection: Connection, pid: int, rooms: Mapping[str, int]) -> None:
        self._connection = connection
        self._pid = pid
        self._rooms = rooms
        self._owner, self._rings = new_id(), deliveries.Rings()

    @classmethod
    async def on(cls, connection: Connection, shape: Shape) -> Claimer:
        """One over ``connection``, at work on up to 500 of the destinations."""
        names = domains(shape.destinations)
        await destinations.learn(connection, {name: f"mx.{name}" for name in names}, datetime.now(UTC))
        await connection.execute("ANALYZE destinations")
        rooms = {f"mx.{name}": CLAIM_ROWS if shape.destinations == 1 else ROOM for name in names[:DESTINATIONS]}
        return cls(connection, await connection.fetchval("SELECT pg_backend_pid()"), rooms)

    async def claims(self, count: int, after: After) -> tuple[list[float], float]:
        """Milliseconds of each of ``count`` claims, and the seconds of PostgreSQL's processor time they took in all.

        ``after`` is done with what each of them brought, and not counted.
        """
        waits: list[float] = []
        cpu = 0.0
        for number in range(count + WARM_UP):
            used, began = cpu_seconds([self._pid]), time.perf_counter()
            claimed = await self._claim()
            if number >= WARM_UP:
                waits.append((time.perf_counter() - began) * 1000)
                cpu += cpu_seconds([self._pid]) - used
            await after(claimed)
        return waits, cpu

    async def churn(self, claims: int) -> int:
        """Claims and settles so many times; how many deliveries that were."""
        tried = 0
        for _ in range(claims):
            claimed = await self._claim()
            await self.settle(claimed)
            tried += len(claimed)
        return tried

    async def give_back(self, claimed: Claimed) -> None:
        """Untried, due from now on: the queue stays as it is, however often it is asked."""
        now = datetime.now(UTC)
        await deliveries.release(self._connection, self._owner, [(one.id, one.lease_fence, now) for one in claimed])

    async def settle(self, claimed: Claimed) -> None:
        """Delivered, or deferred for some minutes."""
        now = datetime.now(UTC)
        results = [_result(one, now, late=number % DEFERRED_OF == 0) for number, one in enumerate(claimed)]
        await deliveries.settle(self._connection, self._owner, results, now)

    async def _claim(self) -> Claimed:
        now = datetime.now(UTC)
        claim = await deliveries.claim(
            self._connection,
            owner=self._owner,
            now=now,
            lease_until=now + LEASE,
            limit=CLAIM_ROWS,
            rings=self._rings,
            rooms=self._rooms,
            other_room=ROOM,
        )
        return claim.deliveries


def _result(delivery: ClaimedDelivery, now: datetime, *, late: bool) -> Settlement:
    kind = EventType.DEFERRED if late else EventType.DELIVERED
    return Settlement(
        delivery_id=delivery.id,
        fence=delivery.lease_fence,
        state=State.DEFERRED if late else State.DELIVERED,
        counted=True,
        next_attempt_at=now + DEFERRED if late else None,
        reply="450 later" if late else "250 ok",
        host=f"mx.{delivery.destination}",
        notice=None,
        events=((EventType.ATTEMPTED, {"attempt": 1}), (kind, {"attempt": 1})),
    )


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
                await connection.execute("NOTIFY deliveries")
            await asyncio.sleep(SETTLE_SECONDS)
            loaded = house.own_memory_mib()
    name = f"memory of {queued:,} queued deliveries in the process"
    run.record(Figure(GROUP, name, "MiB", one(loaded - idle), goal=at_most(200), memory_mib=loaded))
