"""A commit that was not answered: what is stored is promised, and only what is not is put off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from clawmail.base.errors import StoreInDoubt, StoreUnwell
from clawmail.base.ids import new_id
from clawmail.core import writer
from clawmail.core.writer import Writer
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.mail import Filing, Posting
from clawmail.store import postings
from clawmail.store.db import Connection, Database
from tests.support import mail
from tests.support.tenants import Tenant

_WAITS = "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1"


class Forgetful(Database):
    """A database whose connection breaks at the commit: just before it, or before it is answered."""

    commits = True
    #: the commit comes after our connection is given up, when ``lingering`` lets go of its lock.
    lingers = False
    lingering: Connection = None
    #: connections that cannot be had afterwards, and how many of them are left.
    goes_away_for = 0
    away = 0
    _written = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The first is written on, and breaks; on those that follow the outcome is looked for."""
        if self._written:
            if self.away:
                self.away -= 1
                raise StoreUnwell("the store is not available")
            async with super().connection() as conn:
                yield conn
            return
        self._written = True
        conn = await asyncpg.connect(self.url)
        transaction = conn.transaction()
        await transaction.start()
        yield conn
        if self.lingers:
            owner = await asyncpg.connect(self.url)
            await owner.execute("SELECT pg_advisory_lock(7)")
            self._late = asyncio.create_task(self._commit_late(conn))
            while not await owner.fetchval(_WAITS, conn.get_server_pid()):
                await asyncio.sleep(0.01)
            self.lingering = owner
        else:
            await (transaction.commit() if self.commits else transaction.rollback())
            await conn.close()
            self.away = self.goes_away_for
        raise StoreUnwell("the store is not available")

    @staticmethod
    async def _commit_late(conn: Connection) -> None:
        await conn.execute("SELECT pg_advisory_lock(7); COMMIT")
        await conn.close()


@pytest.fixture
async def forgetful(database_url: str) -> AsyncIterator[Forgetful]:
    """Such a database, open."""
    db = Forgetful(database_url, pool_size=3)
    await db.open()
    yield db
    await db.close()


@pytest.fixture(params=["in one statement", "in a transaction"])
def posting(request: pytest.FixtureRequest, tenant: Tenant) -> Posting:
    """A mail for the tenant's inbox; one that is sent on as well takes more than one statement."""
    filing = Filing(new_id(), tenant.organisation_id, tenant.domain.id, tenant.inbox.id, "inbound", False)
    message = mail.message_of(b"From: a@far.test\r\n\r\nx")
    if request.param == "in one statement":
        return Posting(message, (filing,))
    now = message.received_at
    delivery = NewDelivery(
        new_id(), tenant.organisation_id, tenant.domain.id, None, None, None, "forward", "", "x@far.test", "far.test",
        State.QUEUED, now, now,
    )  # fmt: skip
    return Posting(message, (filing,), (delivery,))


async def emails(db: Database) -> int:
    """How many are filed."""
    async with db.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM emails"))


async def test_what_was_committed_is_promised_although_nobody_said_so(
    forgetful: Forgetful, db: Database, posting: Posting
) -> None:
    assert (await Writer(forgetful).write(posting)).message_id == posting.message.id
    assert await emails(db) == 1


async def test_the_outcome_is_looked_for_until_the_database_is_back(
    forgetful: Forgetful, db: Database, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_GAP_SECONDS", 0.001)
    forgetful.goes_away_for = 3
    assert (await Writer(forgetful).write(posting)).message_id == posting.message.id
    assert forgetful.away == 0
    assert await emails(db) == 1


async def test_what_was_not_committed_is_put_off(forgetful: Forgetful, db: Database, posting: Posting) -> None:
    forgetful.commits = False
    with pytest.raises(StoreUnwell) as raised:
        await Writer(forgetful).write(posting)
    assert not isinstance(raised.value, StoreInDoubt)
    assert await emails(db) == 0


async def test_a_commit_that_is_still_under_way_is_waited_for(
    forgetful: Forgetful, db: Database, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line broke, and the database does not know it yet: "not there" is no answer as long as it may come."""
    monkeypatch.setattr(writer, "DOUBT_GAP_SECONDS", 0.01)
    forgetful.lingers = True
    writing = asyncio.create_task(Writer(forgetful).write(posting))
    while forgetful.lingering is None:
        await asyncio.sleep(0.01)
    done, _ = await asyncio.wait({writing}, timeout=0.2)
    assert not done
    assert await emails(db) == 0
    await forgetful.lingering.close()
    assert (await writing).message_id == posting.message.id
    assert await emails(db) == 1


async def test_a_database_that_stays_away_is_not_waited_for_long(
    forgetful: Forgetful, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_SECONDS", 0.05)
    monkeypatch.setattr(writer, "DOUBT_GAP_SECONDS", 0.001)
    forgetful.goes_away_for = 1_000_000
    with pytest.raises(StoreInDoubt):
        await Writer(forgetful).write(posting)


async def test_a_statement_that_has_changed_nothing_yet_is_waited_for_as_well(db: Database) -> None:
    """It waits for a lock: PostgreSQL has given it no transaction id, and it will write all the same."""
    async with asyncio.timeout(30), db.connection() as owner, db.connection() as waiting, db.connection() as looking:
        backend = waiting.get_server_pid()
        await owner.execute("SELECT pg_advisory_lock(1)")
        at_it = asyncio.create_task(waiting.execute("SELECT pg_advisory_lock(1)"))
        while not await owner.fetchval("SELECT state = 'active' FROM pg_stat_activity WHERE pid = $1", backend):
            await asyncio.sleep(0.01)
        assert await postings.is_stored(looking, new_id(), backend) is None
        await owner.execute("SELECT pg_advisory_unlock(1)")
        await at_it


async def test_what_is_still_on_the_line_is_never_done(db: Database, database_url: str) -> None:
    """Our statement may reach PostgreSQL after we have given it up: whoever would do it then is ended first."""
    late = await asyncpg.connect(database_url)
    backend = late.get_server_pid()
    async with asyncio.timeout(30), db.connection() as looking:
        assert await postings.is_stored(looking, new_id(), backend) is None
        while await postings.is_stored(looking, new_id(), backend) is None:
            await asyncio.sleep(0.01)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await late.execute("CREATE TABLE too_late ()")
    await late.close()


async def test_who_looks_is_not_whom_he_looks_for(db: Database) -> None:
    """The same connection again: it has answered, so nothing is on the line."""
    async with db.connection() as conn:
        assert await postings.is_stored(conn, new_id(), conn.get_server_pid()) is False


async def test_a_database_that_says_no_is_not_asked_what_became_of_it(
    db: Database, posting: Posting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only, full, or a deadlock: that is an answer, and nothing is looked for."""

    async def never(*_: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(postings, "is_stored", never)
    async with db.connection() as conn:
        await conn.execute("SET default_transaction_read_only = on")
    with pytest.raises(StoreUnwell) as raised:
        await Writer(db).write(posting)
    assert raised.value.answered
