"""Mail that is on its way shares the commit of mail that is here, and nobody waits for long, or for himself."""

from __future__ import annotations

import asyncio

import pytest

from clawmail.core import writer as module
from clawmail.core.writer import Writer
from clawmail.model.mail import Posting
from clawmail.store.db import Database
from tests.store.test_postings import a_message, filed_in
from tests.support.tenants import Tenant

#: turns of the loop that a commit is not held up by, and far fewer than one takes.
TURNS = 10
PATIENCE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def far_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that nobody's slow machine ends, and that no test sits out."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 3600.0)
    monkeypatch.setattr(module, "ANNOUNCED_SECONDS", 3600.0)


async def commits(db: Database) -> int:
    async with db.connection() as conn:
        return int(await conn.fetchval("SELECT count(DISTINCT xmin::text) FROM messages"))


async def late(writer: Writer, tenant: Tenant, *, announced: asyncio.Event | None) -> None:
    """Hands in mail some turns after it was announced, or not announced."""

    async def hand_in() -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await writer.write(Posting(a_message(), (filed_in(tenant),)))

    if announced is None:
        await hand_in()
    else:
        with writer.on_its_way():
            announced.set()
            await hand_in()


async def test_announced_mail_shares_the_commit_of_mail_that_is_here(db: Database, tenant: Tenant) -> None:
    writer, announced = Writer(db, gathers=True), asyncio.Event()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(late(writer, tenant, announced=announced))
        await announced.wait()
        await writer.write(Posting(a_message(), (filed_in(tenant),)))
    assert await commits(db) == 1


async def test_mail_that_was_not_announced_is_not_waited_for(db: Database, tenant: Tenant) -> None:
    writer = Writer(db, gathers=True)
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(late(writer, tenant, announced=None))
        await writer.write(Posting(a_message(), (filed_in(tenant),)))
    assert await commits(db) == 2


async def test_a_lone_mail_does_not_wait_for_itself(db: Database, tenant: Tenant) -> None:
    writer = Writer(db, gathers=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        with writer.on_its_way():
            await writer.write(Posting(a_message(), (filed_in(tenant),)))
    assert await commits(db) == 1


async def test_what_was_refused_on_its_way_is_not_waited_for(db: Database, tenant: Tenant) -> None:
    writer, announced, refused = Writer(db, gathers=True), asyncio.Event(), asyncio.Event()

    async def refuse() -> None:
        with writer.on_its_way():
            announced.set()
            await refused.wait()

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(refuse())
        await announced.wait()
        written = group.create_task(writer.write(Posting(a_message(), (filed_in(tenant),))))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert not written.done()
        refused.set()
    assert await commits(db) == 1


@pytest.mark.parametrize("limit", ["GATHER_SECONDS", "ANNOUNCED_SECONDS"])
async def test_who_dawdles_keeps_nobody_waiting(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    writer, announced = Writer(db, gathers=True), asyncio.Event()

    async def dawdle() -> None:
        with writer.on_its_way():
            announced.set()
            await asyncio.Event().wait()

    dawdler = asyncio.create_task(dawdle())
    await announced.wait()
    monkeypatch.setattr(module, limit, 0.0)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await writer.write(Posting(a_message(), (filed_in(tenant),)))
    assert await commits(db) == 1
    dawdler.cancel()


async def test_a_process_that_has_the_whole_crowd_waits_for_nobody(db: Database, tenant: Tenant) -> None:
    writer, announced = Writer(db), asyncio.Event()
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        group.create_task(late(writer, tenant, announced=announced))
        await announced.wait()
        await writer.write(Posting(a_message(), (filed_in(tenant),)))
    assert await commits(db) == 2
