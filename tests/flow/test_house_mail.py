"""Mail within the house is filed once, although it is written down as delivered in a transaction of its own."""

from __future__ import annotations

import asyncio

import pytest

from clawmail.model.delivery import ClaimedDelivery
from clawmail.store.db import Database
from clawmail.store.pieces import LARGE_BYTES
from tests.flow.test_notices import local
from tests.support.outgoing import MESSAGE, make_settings, make_worker, queue, running, settled
from tests.support.tenants import Tenant, add_inbox

CAROL = "carol@example.test"
LARGE = MESSAGE + b"0123456789abcdef\r\n" * (LARGE_BYTES // 18 + 1)


async def claimed(db: Database, tenant: Tenant, raw: bytes = MESSAGE) -> ClaimedDelivery:
    """A delivery to Carol in the hands of a process."""
    await queue(db, tenant, [CAROL], raw=raw)
    worker = make_worker(db, {}, make_settings(25), local=local(db))
    (delivery,) = (await worker.outbound._leases.claim({}, 5, 5, {})).deliveries
    return delivery


async def copies(db: Database, inbox: object) -> int:
    """How many emails somebody has."""
    async with db.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM emails WHERE inbox_id = $1", inbox))


@pytest.mark.parametrize("raw", [MESSAGE, LARGE], ids=["small", "large"])
async def test_who_takes_over_finds_what_a_dead_process_filed(db: Database, tenant: Tenant, raw: bytes) -> None:
    carol = await add_inbox(db, tenant.domain, "carol")
    delivery = await claimed(db, tenant, raw)
    assert (await local(db).carry([delivery]))[delivery.id].last.reply.code == 250
    # It dies here: nothing is settled, and the lease runs out.
    async with db.connection() as conn:
        await conn.execute("UPDATE deliveries SET lease_until = now() - interval '1 second'")
    async with running(make_worker(db, {}, make_settings(25, poll_seconds=0.2), local=local(db))):
        (row,) = await settled(db, [delivery.id])
    assert (row["state"], row["last_reply"]) == ("delivered", f"250 2.0.0 queued as {delivery.id}")
    assert await copies(db, carol.id) == 1


async def test_two_who_hand_over_the_same_at_once_file_it_once(db: Database, tenant: Tenant) -> None:
    """One of them slept beyond its lease."""
    carol = await add_inbox(db, tenant.domain, "carol")
    delivery = await claimed(db, tenant)
    outcomes = await asyncio.gather(*(local(db).carry([delivery]) for _ in range(3)))
    assert [outcome[delivery.id].last.reply.code for outcome in outcomes] == [250, 250, 250]
    assert await copies(db, carol.id) == 1
