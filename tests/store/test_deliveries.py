"""The queue's statements: claims fair and exclusive, leases owned, results fenced, and plans that hold at size."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from clawmail.base.ids import new_id
from clawmail.model.delivery import MOVES, ClaimedDelivery, Settlement, State, may_move
from clawmail.model.events import EventType
from clawmail.store import deliveries, destinations, suppressions
from clawmail.store.db import Connection, Database
from tests.support.outgoing import events_of, queue, rows
from tests.support.tenants import Tenant, add_tenant

#: later than the end of any run: what is due "at once" goes by the clock of the database.
NOW = datetime.now(UTC) + timedelta(days=1)
LEASE = timedelta(seconds=60)


async def claim(
    conn: Connection,
    owner: UUID | None = None,
    *,
    limit: int = 100,
    rings: deliveries.Rings | None = None,
    rooms: dict[str, int] | None = None,
    other_room: int = 100,
    now: datetime = NOW,
) -> list[ClaimedDelivery]:
    claimed = await deliveries.claim(
        conn,
        owner=owner or new_id(),
        now=now,
        lease_until=now + LEASE,
        limit=limit,
        rings=rings or deliveries.Rings(),
        rooms=rooms or {},
        other_room=other_room,
    )
    return list(claimed.deliveries)


def result(one: ClaimedDelivery, state: State = State.DELIVERED, **more: Any) -> Settlement:
    values: dict[str, Any] = {
        "counted": True,
        "next_attempt_at": None,
        "reply": "250 ok",
        "host": "mx.there.test",
        "events": ((EventType.ATTEMPTED, {"n": 1}), (EventType.DELIVERED, {"n": 2})),
    }
    return Settlement(one.id, one.lease_fence, state, **(values | more))


async def fill(conn: Connection, count: int, *, destinations: int, tenants: int, due: float = 1.0) -> None:
    """Many rows at once: one message each, and a share of them due."""
    await conn.execute(
        "INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, reference_ids, subject, from_address, from_name,"
        " envelope_from, to_addresses, cc_addresses, bcc_addresses, reply_to, attachments, received_at)"
        " SELECT gen_random_uuid(), 'x', '', 1, '', '{}', '', '', '', '', '{}', '{}', '{}', '{}', '[]', now()"
        " FROM generate_series(1, $1::bigint)",
        count,
    )
    await conn.execute(
        "INSERT INTO deliveries (id, organisation_id, domain_id, message_id, kind, envelope_from, recipient,"
        " destination, state, next_attempt_at, created_at)"
        " SELECT gen_random_uuid(), gen_random_uuid(), lpad(to_hex(n % $2::bigint), 32, '0')::uuid, id, 'send', 'a@b',"
        " 'r' || n || '@x', 'd' || (n % $1::bigint) || '.test', 'queued',"
        " CASE WHEN n % 1000 < 1000 * $3::double precision THEN $4::timestamptz ELSE $5::timestamptz END"
        " + make_interval(secs => n * 0.000001), now()"
        " FROM (SELECT id, row_number() OVER () AS n FROM messages) AS m",
        destinations,
        tenants,
        due,
        NOW - timedelta(seconds=30),
        NOW + timedelta(hours=1),
    )
    await conn.execute("ANALYZE deliveries")
    await conn.execute("ANALYZE messages")


def test_every_state_has_its_moves_and_only_known_ones() -> None:
    assert set(MOVES) == set(State)
    assert all(may_move(old, new) == (new in MOVES[old]) for old in State for new in State)
    assert [state for state in State if not MOVES[state]] == ["bounced", "suppressed", "expired", "cancelled"]


async def test_a_delivery_is_claimed_once(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, [f"r{n}@d{n % 7}.test" for n in range(60)])

    async def greedy() -> list[ClaimedDelivery]:
        got, rings = [], deliveries.Rings()
        async with db.connection() as conn:
            while more := await claim(conn, limit=5, rings=rings):
                got += more
        return got

    claims = await asyncio.gather(*(greedy() for _ in range(4)))
    claimed = [one.id for got in claims for one in got]
    assert len(claimed) == len(set(claimed)) == 60
    assert {row["state"] for row in await rows(db, ids)} == {"leased"}


async def test_what_is_not_due_parked_or_paused_is_left(db: Database, tenant: Tenant) -> None:
    await queue(db, tenant, ["a@later.test"], next_attempt_at=NOW + timedelta(seconds=1))
    await queue(db, tenant, ["a@parked.test", "a@paused.test", "a@pausedsite.test", "a@open.test"])
    async with db.transaction() as conn:
        await destinations.learn(conn, {"parked.test": "mx.big.test", "pausedsite.test": "mx.slow.test"}, NOW)
        await destinations.park(conn, "mx.big.test", NOW, first_seconds=60, most_seconds=900, why="dead")
        await destinations.pause(conn, "paused.test", NOW, "")
        await destinations.pause(conn, "mx.slow.test", NOW, "")
        assert [one.destination for one in await claim(conn)] == ["open.test"]
        nothing = await deliveries.claim(
            conn,
            owner=new_id(),
            now=NOW,
            lease_until=NOW + LEASE,
            limit=9,
            rings=deliveries.Rings(),
            rooms={},
            other_room=9,
        )
        assert (nothing.deliveries, nothing.next_due) == ((), NOW + timedelta(seconds=1))
        later = NOW + timedelta(seconds=61)
        assert {one.destination for one in await claim(conn, now=later)} == {"later.test", "parked.test"}


async def test_parking_grows_and_ends(db: Database) -> None:
    until, now = [], NOW
    async with db.transaction() as conn:
        for _ in range(6):
            for _twice in range(2):  # whoever finds out at the same time does not make it worse
                await destinations.park(conn, "mx.test", now, first_seconds=60, most_seconds=900, why="dead")
            (closed,) = await destinations.closed(conn, now, limit=9)
            assert closed.parked_until is not None
            until.append((closed.parked_until - now).total_seconds())
            now = closed.parked_until
        await destinations.answers(conn, "mx.test", now)
        assert await destinations.closed(conn, now, limit=9) == []
    assert until == [60, 120, 240, 480, 900, 900]


@pytest.mark.parametrize("count", [60, 400])  # little, and much: both ways to look
async def test_no_destination_and_no_tenant_hides_the_others(db: Database, tenant: Tenant, count: int) -> None:
    async with db.transaction() as conn:
        await fill(conn, count, destinations=1, tenants=1)
    other = await add_tenant(db, "small.test")
    await queue(db, tenant, ["a@d0.test"])
    await queue(db, other, ["b@d0.test"])
    await queue(db, tenant, ["a@elsewhere.test"])
    rings = deliveries.Rings()
    async with db.connection() as conn:
        first = await claim(conn, limit=8, rings=rings, other_room=6)
        then = await claim(conn, limit=8, rings=rings, other_room=6)
    reached = {(one.domain_id, one.destination) for one in [*first, *then]}
    assert {(tenant.domain.id, "d0.test"), (other.domain.id, "d0.test")} <= reached
    assert (tenant.domain.id, "elsewhere.test") in reached


async def test_sites_get_no_more_than_they_have_room_for(db: Database, tenant: Tenant) -> None:
    for number in range(12):
        await queue(db, tenant, [f"a{number}@one.test"])
        await queue(db, tenant, [f"a{number}@two.test"])
        await queue(db, tenant, [f"a{number}@full.test"])
    async with db.connection() as conn:
        await destinations.learn(conn, {"one.test": "mx.shared.test", "two.test": "mx.shared.test"}, NOW)
        got = await claim(conn, rooms={"mx.shared.test": 5, "full.test": 0})
    assert len(got) == 5 and {one.destination for one in got} == {"one.test", "two.test"}


async def test_recipients_of_one_message_come_together(db: Database, tenant: Tenant) -> None:
    await queue(db, tenant, [f"r{n}@there.test" for n in range(20)])
    async with db.connection() as conn:
        got = await claim(conn, limit=3, other_room=1)
    assert 1 < len(got) <= 6
    assert len({one.message_id for one in got}) == 1


async def test_only_the_owner_renews_and_only_what_he_holds(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["a@there.test", "b@there.test"])
    owner = new_id()
    async with db.connection() as conn:
        await claim(conn, owner)
        assert await deliveries.renew(conn, new_id(), ids, NOW + 9 * LEASE) == set()
        assert await deliveries.renew(conn, owner, ids[:1], NOW + 9 * LEASE) == set(ids[:1])
        assert [row["lease_until"] for row in await rows(db, ids)] == [NOW + 9 * LEASE, NOW + LEASE]


async def test_a_late_owner_settles_nothing(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["a@there.test"])
    dead, alive = new_id(), new_id()
    after = NOW + LEASE
    async with db.transaction() as conn:
        (late,) = await claim(conn, dead)
        assert await deliveries.take_over(conn, NOW + LEASE / 2) == []
        (taken,) = await deliveries.take_over(conn, after)
        assert (taken.id, taken.old_owner) == (ids[0], dead)
        (now_ours,) = await claim(conn, alive, now=after)
        assert now_ours.lease_fence == late.lease_fence + 1
        assert await deliveries.settle(conn, dead, [result(late)], after) == set()
        assert await deliveries.release(conn, dead, [(late.id, late.lease_fence, after)]) == set()
        assert await deliveries.settle(conn, alive, [result(now_ours)], after) == {ids[0]}
        # Once settled it stays so, also for its owner.
        assert await deliveries.settle(conn, alive, [result(now_ours, State.BOUNCED)], after) == set()
    told = await events_of(db, ids[0])
    assert [kind for kind, _ in told] == ["attempted", "attempted", "delivered"]
    assert told[0][1] == {"result": "lease expired", "possible_duplicate": True, "owner": str(dead)}


async def test_a_late_result_beside_the_next_one_tells_nothing(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["a@far.test"], next_attempt_at=NOW)
    owner, after = new_id(), NOW + timedelta(hours=1)
    async with db.connection() as conn:
        (late,) = await claim(conn, owner)
        await deliveries.take_over(conn, after)
        (again,) = await claim(conn, owner, now=after)
        assert await deliveries.settle(conn, owner, [result(again), result(late)], after) == {ids[0]}
    # The one of the lease that ran out, and the two of the result that counts.
    assert [kind for kind, _ in await events_of(db, ids[0])] == ["attempted", "attempted", "delivered"]


async def test_a_result_and_its_events_are_one_fact(db: Database, tenant: Tenant) -> None:
    email_id, ids = await queue(db, tenant, ["a@there.test"])
    owner = new_id()
    async with db.transaction() as conn:
        (one,) = await claim(conn, owner)
        await deliveries.settle(conn, owner, [result(one)], NOW)
        (row,) = await conn.fetch("SELECT * FROM events WHERE email_id = $1 AND type = 'delivered'", email_id)
    assert (row["delivery_id"], row["recipient"], row["inbox_id"], row["at"]) == (
        ids[0],
        "a@there.test",
        tenant.inbox.id,
        NOW,
    )
    assert msgspec.json.decode(row["detail"]) == {"n": 2}
    (settled,) = await rows(db, ids)
    assert (settled["attempts"], settled["settled_at"], settled["last_reply"]) == (1, NOW, "250 ok")


async def test_a_result_reads_no_whole_table_by_the_plan_of_a_new_server(
    db: Database, tenant: Tenant, database_url: str
) -> None:
    await queue(db, tenant, ["a@there.test"])
    owner, once = new_id(), Database(database_url, pool_size=1, plans_once=True)
    await once.open()
    async with once.transaction() as conn:
        (one,) = await claim(conn, owner)
        assert await deliveries.settle(conn, owner, [result(one)], NOW) == {one.id}
        read = "SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'deliveries'"
        assert await conn.fetchval(read) == 0
    await once.close()


async def test_a_move_that_is_not_allowed_is_refused_before_it_is_written(db: Database, tenant: Tenant) -> None:
    _, ids = await queue(db, tenant, ["a@there.test"])
    owner = new_id()
    async with db.connection() as conn:
        (one,) = await claim(conn, owner)
        with pytest.raises(AssertionError):
            await deliveries.settle(conn, owner, [result(one, State.HELD)], NOW)
    assert (await rows(db, ids))[0]["state"] == "leased"


async def test_a_success_forgives_soft_bounces_but_nothing_else(db: Database, tenant: Tenant) -> None:
    who: dict[str, Any] = {
        "organisation_id": tenant.organisation_id,
        "domain_id": tenant.domain.id,
        "detail": "",
        "now": NOW,
    }
    await queue(db, tenant, ["soft@there.test"])
    owner = new_id()
    async with db.transaction() as conn:
        await suppressions.record_soft(conn, address="soft@there.test", **who)
        await suppressions.record_soft(conn, address="soft@there.test", **who)
        await suppressions.record_hard(conn, address="hard@there.test", **who)
        await deliveries.settle(conn, owner, [result(one) for one in await claim(conn, owner)], NOW)
        await suppressions.record_soft(conn, address="soft@there.test", **who)
        assert await suppressions.get(conn, tenant.domain.id, "soft@there.test", NOW) is None
        assert await suppressions.get(conn, tenant.domain.id, "hard@there.test", NOW) is not None


async def test_three_soft_bounces_suppress_for_seven_days_and_a_hard_one_for_ever(db: Database, tenant: Tenant) -> None:
    who: dict[str, Any] = {
        "organisation_id": tenant.organisation_id,
        "domain_id": tenant.domain.id,
        "detail": "full",
        "now": NOW,
    }
    async with db.transaction() as conn:

        async def hit(now: datetime) -> bool:
            return await suppressions.get(conn, tenant.domain.id, "Bob@There.Test", now) is not None

        for expected in (False, False, True):
            await suppressions.record_soft(conn, address="Bob@there.test", **who)
            assert await hit(NOW) == expected
        assert await hit(NOW + timedelta(days=6)) and not await hit(NOW + timedelta(days=8))
        await suppressions.record_soft(conn, address="bob@there.test", **(who | {"now": NOW + timedelta(days=8)}))
        assert not await hit(NOW + timedelta(days=8))
        await suppressions.record_hard(conn, address="bob@there.test", **who)
        await suppressions.record_soft(conn, address="bob@there.test", **who)
        assert await hit(NOW + timedelta(days=999))
        found = await suppressions.get(conn, tenant.domain.id, "bob@there.test", NOW)
        assert found is not None and (found.reason, found.expires_at) == ("hard bounce", None)
        assert await suppressions.delete(conn, tenant.domain.id, "BOB@there.test")
        assert not await hit(NOW)
        assert not await suppressions.delete(conn, tenant.domain.id, "bob@there.test")


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


SHAPES = {"one destination": (1, 1), "one destination, many tenants": (1, 3000), "many destinations": (15000, 50)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("due", [1.0, 0.01, 0.0])
@pytest.mark.parametrize("much", [True, False])
async def test_a_claim_reads_a_bounded_part_of_a_large_queue(db: Database, shape: str, due: float, much: bool) -> None:
    """No sequential scan, no sort of everything: what a claim touches does not grow with the queue."""
    to, tenants = SHAPES[shape]
    statement = deliveries._sql.claim
    zero = UUID(int=0)
    arguments: tuple[Any, ...] = (new_id(), NOW, NOW + LEASE, 64, "", zero, zero, "{}", 64, deliveries.CARRIED_BYTES)
    async with db.connection() as conn:
        await fill(conn, 30_000, destinations=to, tenants=tenants, due=due)
        # The plan that a long-lived connection comes to use is the one that knows no values.
        await conn.execute("SET plan_cache_mode = force_generic_plan")
        await conn.execute(f"PREPARE looked_at AS {statement}")
        values = ", ".join(f"'{value}'" for value in (*arguments, much))
        explained = await conn.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looked_at ({values})")
        await conn.execute("DEALLOCATE looked_at")
        await conn.execute("RESET plan_cache_mode")
    found = nodes(msgspec.json.decode(explained)[0]["Plan"])
    scanned = [node for node in found if node.get("Relation Name") in ("deliveries", "messages")]
    assert scanned and not [node for node in scanned if node["Node Type"] == "Seq Scan"]
    # Rows that a filter threw away were seen as well: those of other tenants, on the way to one tenant's.
    most = max((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in found)
    assert most <= 1000, f"a node of the plan saw {most} rows"


async def test_a_claim_is_planned_once(db: Database) -> None:
    """PostgreSQL keeps a plan when it looks no worse than those made for single calls; making one takes longer than
    the claim's walk."""
    who: dict[str, Any] = {"owner": new_id(), "now": NOW, "lease_until": NOW + LEASE, "limit": 64}
    async with db.connection() as conn:
        await fill(conn, 50_000, destinations=10_000, tenants=500)
        for _ in range(5):
            await conn.execute("ANALYZE deliveries")  # statistics are a sample, and now and then an odd one
            for _ in range(20):
                await deliveries.claim(conn, **who, rings=deliveries.Rings(), rooms={}, other_room=50)
            # The look is itself a prepared statement, and holds the name.
            planned = await conn.fetchrow(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
                " WHERE statement LIKE '%deliveries.claim%' AND statement NOT LIKE '%pg_prepared_statements%'"
            )
            if planned["generic_plans"] >= 10:
                return
    raise AssertionError(f"plans made for single calls: {planned['custom_plans']}, kept: {planned['generic_plans']}")


async def test_the_ring_is_as_long_as_its_sql_says() -> None:
    assert deliveries._sql.claim.count(f".step < {deliveries.RING_STEPS}\n") == 2


async def test_a_whole_queue_is_drained_by_turns(db: Database) -> None:
    async with db.connection() as conn:
        await fill(conn, 3_000, destinations=400, tenants=7)
        rings, owner, got, claims = deliveries.Rings(), new_id(), 0, 0
        while True:
            found = await deliveries.claim(
                conn, owner=owner, now=NOW, lease_until=NOW + LEASE, limit=64, rings=rings, rooms={}, other_room=50
            )
            got, claims = got + len(found.deliveries), claims + 1
            if found.complete and not found.deliveries:
                break
    assert got == 3_000
    assert claims < 120
