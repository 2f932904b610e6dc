"""What an operator is shown of the queue."""

from __future__ import annotations

from datetime import UTC, datetime

from clawmail.core.outbound.operator import OutboundQueue
from clawmail.store import destinations
from clawmail.store.db import Database
from tests.support.outgoing import queue
from tests.support.tenants import Tenant


async def test_a_domain_that_is_paused_at_an_open_site_is_not_passed_over(db: Database, tenant: Tenant) -> None:
    operator = OutboundQueue(db)
    await queue(db, tenant, ["a@one.test", "a@two.test", "a@alone.test"])
    async with db.connection() as conn:
        sites = {"one.test": "mx.shared.test", "two.test": "mx.shared.test"}
        await destinations.learn(conn, sites, datetime.now(UTC))
    for name in ("two.test", "alone.test"):
        await operator.pause(name, "they asked")
    shared, alone = await operator.top()
    assert (shared["site"], shared["waiting"], shared["paused_at"]) == ("mx.shared.test", 2, None)
    assert shared["paused_domains"] == ["two.test"]
    # Its site is not known yet, so that the domain stands for it.
    assert (alone["site"], alone["pause_reason"], alone["paused_domains"]) == ("alone.test", "they asked", None)
    await operator.resume("two.test")
    assert (await operator.top())[0]["paused_domains"] is None
