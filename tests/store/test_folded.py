"""One inbox, however its address is written, and whatever the database takes for a small letter."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from clawmail.base.errors import Conflict, NotFound
from clawmail.base.settings import Inbox as InboxSettings
from clawmail.core.access import Access
from clawmail.core.directory import Directory
from clawmail.core.inboxes import Inboxes
from clawmail.model.tenancy import Principal
from clawmail.protocol.address import folded
from clawmail.store import suppressions
from clawmail.store.db import Database
from clawmail.store.migrate import migrate
from tests.support.postgres import TestServer
from tests.support.tenants import Tenant, add_tenant

#: an inbox as it is made, and other writings of it.
SAME = [
    ("Agent007", "aGENT007"),
    ("JÖRG", "jörg"),
    ("Jörg", "JÖRG"),
    ("jo\u0308rg", "JÖRG"),
    ("JÖRG", "jo\u0308rg"),
    ("STRAẞE", "straße"),
    ("İnci", "i\u0307nci"),
    ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
]
#: two inboxes.
OTHERS = [("straße", "strasse"), ("İnci", "inci"), ("jörg", "jorg"), ("ınci", "inci")]


@pytest.fixture(params=["C", "C.UTF-8"])
async def db(request: pytest.FixtureRequest, postgres: TestServer) -> AsyncIterator[Database]:
    """A database whose lower() knows A to Z alone, as the embedded server's does, and one whose lower() knows more."""
    name = f"test_{secrets.token_hex(6)}"
    locale = f"LOCALE_PROVIDER builtin BUILTIN_LOCALE '{request.param}' LOCALE 'C'"
    await postgres._admin(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' {locale}")
    await migrate(postgres.url_of(name))
    opened = Database(postgres.url_of(name), pool_size=3, timeout_seconds=30)
    await opened.open()
    yield opened
    await opened.close()
    await postgres.drop(postgres.url_of(name))


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    """With an inbox called agent."""
    return await add_tenant(db)


def house(db: Database, tenant: Tenant) -> tuple[Inboxes, Principal, Directory]:
    """The use-cases that make and find inboxes, and the domain's owner."""
    owner = replace(tenant.principal, kind="domain", inbox_id=None, address=None)
    directory = Directory(db, catch_all_local_part="catchall", quota_bytes=1000, catches_all=False)
    inboxes = Inboxes(db, access=Access(db), changed=directory.forget, settings=InboxSettings())
    return inboxes, owner, directory


@pytest.mark.parametrize(("made", "written"), SAME)
async def test_writings_of_one_inbox(db: Database, tenant: Tenant, made: str, written: str) -> None:
    inboxes, owner, directory = house(db, tenant)
    now = datetime.now(UTC)
    inbox = await inboxes.add(owner, f"{made}@example.test", now)
    assert inbox.local_part == (made if made.isascii() else folded(written))
    for local in (made, written, inbox.local_part):
        found = await directory.inbox_for(tenant.domain, local)
        assert found is not None and found.id == inbox.id, local
        with pytest.raises(Conflict):
            await inboxes.add(owner, f"{local}@Example.Test", now)
    key = await inboxes.new_inbox_key(owner, f"{written}@example.test", "", now)
    assert key.address == inbox.address
    assert (await Access(db).inbox(f"{written}@example.test", key.text)).inbox_id == inbox.id
    await inboxes.set_quota(owner, f"{written}@example.test", 4711)
    await inboxes.remove(owner, f"{written}@example.test", now)
    assert await directory.inbox_for(tenant.domain, made) is None
    with pytest.raises(NotFound):
        await inboxes.remove(owner, f"{made}@example.test", now)


@pytest.mark.parametrize(("one", "other"), OTHERS)
async def test_inboxes_that_only_look_alike(db: Database, tenant: Tenant, one: str, other: str) -> None:
    inboxes, owner, directory = house(db, tenant)
    made = [await inboxes.add(owner, f"{local}@example.test", datetime.now(UTC)) for local in (one, other)]
    found = [await directory.inbox_for(tenant.domain, local) for local in (one, other)]
    assert [inbox and inbox.id for inbox in found] == [inbox.id for inbox in made]


async def test_a_catch_all_beyond_ascii_is_one(db: Database, tenant: Tenant) -> None:
    directory = Directory(db, catch_all_local_part="ÜBRIGES", quota_bytes=1000)
    found = [await directory.inbox_for(tenant.domain, local) for local in ("nobody", "übriges", "ÜBRIGES")]
    assert {inbox.address if inbox else None for inbox in found} == {"übriges@example.test"}


async def test_addresses_of_others_are_folded_from_a_to_z(db: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    who: dict[str, Any] = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id, "now": now}
    async with db.transaction() as conn:
        await suppressions.record_hard(conn, address="JÖRG@far.test", detail="550", **who)
        await suppressions.record_hard(conn, address="İnci@FAR.test", detail="550", **who)
        asked = ["jÖrg@far.test", "jörg@far.test", "İNCI@far.test", "inci@far.test"]
        hit = [address for address in asked if await suppressions.get(conn, tenant.domain.id, address, now)]
        assert hit == ["jÖrg@far.test", "İNCI@far.test"]
        assert await suppressions.delete(conn, tenant.domain.id, "JÖRG@FAR.TEST")
