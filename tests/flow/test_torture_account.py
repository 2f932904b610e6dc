"""The account of the torture can fail: each way to break a promise is found by it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant
from tests.torture.account import Account, settle_accounts
from tests.torture.ledger import Ledger, Sent, Strike
from tests.torture.load import Target
from tests.torture.world import World

NAME = "<promised@sender.test>"
RAW = b"From: s@sender.test\r\nMessage-ID: <promised@sender.test>\r\n\r\nhello\r\n"


def world_of(db: Database) -> World:
    """A world of which only the ledger and the database are looked at."""
    return World(Ledger(), [], None, Target([], [], "", ""), db.url, Path())  # type: ignore[arg-type]  # no sink


async def account_of(world: World) -> Account:
    """The account of a mail that was promised."""
    world.ledger.expect(RAW, NAME).promised_at = 1.0
    return await settle_accounts(world)


async def test_what_is_there_once_is_kept(db: Database, tenant: Tenant) -> None:
    await mail.file(db, tenant, raw=RAW)
    account = await account_of(world_of(db))
    assert (account.clean, account.promised_in, account.stored_in, account.duplicates) == (True, 1, 1, 0)


async def test_what_is_not_there_is_lost(db: Database, tenant: Tenant) -> None:
    account = await account_of(world_of(db))
    assert account.lost == [f"{NAME} was answered 250 and is not there"]


async def test_what_has_other_bytes_is_lost(db: Database, tenant: Tenant) -> None:
    await mail.file(db, tenant, raw=RAW + b".")
    assert "other bytes" in (await account_of(world_of(db))).lost[0]


async def test_a_second_copy_needs_a_reason(db: Database, tenant: Tenant) -> None:
    for _ in range(2):
        await mail.file(db, tenant, raw=RAW)
    account = await account_of(world_of(db))
    assert account.unexplained == [f"{NAME} is stored 2 times, with 0 doubts"]
    world = world_of(db)
    world.ledger.expect(RAW, NAME)
    world.ledger.incoming[NAME].promised_at, world.ledger.incoming[NAME].doubts = 1.0, 1
    account = await settle_accounts(world)
    assert (account.clean, account.duplicates) == (True, 1)


@pytest.mark.parametrize(
    ("state", "copies", "told", "word"),
    [
        ("delivered", 1, 1, ""),
        ("delivered", 0, 1, "0 copies"),
        ("delivered", 1, 0, "told 0"),
        ("expired", 0, 0, "ended as"),
        ("queued", 0, 0, ""),
        ("bounced", 0, 0, "bounced"),
    ],
)
async def test_a_sent_mail_is_delivered_or_still_on_its_way(
    db: Database, tenant: Tenant, state: str, copies: int, told: int, word: str
) -> None:
    email: UUID = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test",))
    world = world_of(db)
    async with db.transaction() as conn:
        name = await conn.fetchval("SELECT m.rfc_message_id FROM emails e JOIN messages m ON m.id = e.message_id")
        await conn.execute(
            "UPDATE deliveries SET state = $1, last_attempt_at = now(), attempts = 1,"
            " settled_at = CASE WHEN $1 = 'queued' THEN NULL ELSE now() END",
            state,
        )
        await conn.execute(
            "INSERT INTO events (id, organisation_id, domain_id, delivery_id, type, detail, at)"
            " SELECT gen_random_uuid(), organisation_id, domain_id, id, 'delivered', '{}', now() FROM deliveries"
            " CROSS JOIN generate_series(1, $1)",
            told,
        )
    world.ledger.sent[str(email)] = Sent(str(email), name, "a@far.test", 1.0)
    for _ in range(copies):
        world.ledger.taken(f"Message-ID: {name}\r\n\r\n".encode(), answered=True)
    account = await settle_accounts(world)
    assert bool(account.lost) is bool(word)
    assert word in "".join(account.lost)


@pytest.mark.parametrize(
    ("reply", "explained"),
    [
        ("451 4.3.0 the store did not say in time whether it kept this", True),
        ("451 4.3.0 the store is not available, try again later", False),
    ],
)
async def test_only_451_in_doubt_explains_a_second_copy(
    db: Database, tenant: Tenant, reply: str, explained: bool
) -> None:
    for _ in range(2):
        await mail.file(db, tenant, raw=RAW)
    world = world_of(db)
    kept = world.ledger.expect(RAW, NAME)
    kept.promised_at, kept.put_off = 2.0, [(1.0, reply)]
    world.ledger.strikes.append(Strike("kill -9 PostgreSQL", 0.9, over=1.1, ended=1.2))
    account = await settle_accounts(world)
    assert (account.duplicates, account.clean) == (1, explained)


ALL, ONE, OTHER = "", "127.0.1.1", "127.0.1.2"


@pytest.mark.parametrize(
    ("kind", "began", "over", "victim", "told", "explained"),
    [
        ("kill -9 a server", 0.1, 0.2, ONE, 1, True),
        ("kill -9 a server", -0.2, -0.1, ONE, 1, True),  # what the sink still found in its buffer
        ("kill -9 a server", 0.1, 0.2, OTHER, 1, False),
        ("kill -9 a server", 0.1, 0.2, ONE, 0, False),  # nothing in the database tells of it
        ("kill -9 a server", 1.5, 1.6, ONE, 1, False),  # by then it was written down
        ("kill -9 a server", -3.0, -2.9, ONE, 1, False),  # by then nobody was there
        ("kill -9 PostgreSQL", -3.0, -2.9, ALL, 1, True),  # a lease that was not renewed in time
        ("network to the database cut", -9.0, -2.9, ALL, 1, False),
        ("network to the database cut", -3.0, 4.0, ALL, 1, True),
        ("SIGTERM", 0.1, 0.2, ONE, 1, False),
        ("clock set", -1.0, 1.0, ALL, 1, False),
    ],
)
async def test_mail_that_went_out_twice_needs_two_witnesses(
    db: Database, tenant: Tenant, kind: str, began: float, over: float, victim: str, told: int, explained: bool
) -> None:
    """Times are in seconds from the first copy's 250."""
    email: UUID = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test",))
    world = world_of(db)
    async with db.transaction() as conn:
        name = await conn.fetchval("SELECT m.rfc_message_id FROM emails e JOIN messages m ON m.id = e.message_id")
        await conn.execute(
            "INSERT INTO events (id, organisation_id, domain_id, delivery_id, type, detail, at)"
            " SELECT gen_random_uuid(), organisation_id, domain_id, id, 'attempted',"
            " '{\"possible_duplicate\": true}', now()"
            " FROM deliveries CROSS JOIN generate_series(1, $1)",
            told,
        )
    world.ledger.sent[str(email)] = Sent(str(email), name, "a@far.test", 1.0)
    for peer in (ONE, OTHER):
        world.ledger.taken(f"Message-ID: {name}\r\n\r\n".encode(), answered=True, peer=peer)
    at = world.ledger.copies[name][0].at
    world.ledger.strikes.append(Strike(kind, at + began, over=at + over, ended=at + over + 20, victim=victim))
    account = await settle_accounts(world)
    assert account.duplicates == 1
    assert bool(account.unexplained) is not explained
    if explained:
        assert account.explained[f"{kind} between the sink's 250 and our commit"] == 1
        assert account.longest_ahead == pytest.approx(max(0.0, began))
