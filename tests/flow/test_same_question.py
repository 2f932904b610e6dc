"""What many ask for at once is looked up once, and its answer is everybody's."""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from typing import Any

import pytest

from clawmail.base.errors import Unauthenticated
from clawmail.core import access as core_access
from clawmail.core.access import Access, stored_key
from clawmail.core.directory import Directory
from clawmail.core.same_question import SameQuestion
from clawmail.store import directory as directory_store
from clawmail.store import keys
from clawmail.store.db import Database
from tests.support.tenants import Tenant

CROWD = 20


def counted(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """Has each call of a function written down."""
    calls: list[str] = []
    function = getattr(owner, name)

    def counting(*arguments: Any) -> Any:
        calls.append(name)
        return function(*arguments)

    monkeypatch.setattr(owner, name, counting)
    return calls


async def test_a_key_that_many_show_at_once_costs_one_argon2(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, text = await stored_key("inbox", tenant.principal, datetime.now(UTC), inbox_id=tenant.inbox.id)
    async with db.connection() as conn:
        await keys.add(conn, key)
    proofs = counted(monkeypatch, core_access, "key_matches")
    judge = Access(db)
    address = tenant.inbox.address
    try:
        holders = await asyncio.gather(*(judge.inbox(address, text) for _ in range(CROWD)))
        assert {holder.inbox_id for holder in holders} == {tenant.inbox.id}
        assert len(proofs) == 1
        wrong = await asyncio.gather(*(judge.inbox(address, text + "x") for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in wrong] == [Unauthenticated] * 3
    finally:
        await judge.stop()


async def test_a_domain_that_many_ask_for_at_once_is_read_once(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains, rules = (counted(monkeypatch, directory_store, name) for name in ("domain", "rules"))
    remembering = Directory(db, catch_all_local_part="catchall", quota_bytes=1000)
    name = tenant.domain.name
    found = await asyncio.gather(*(remembering.domain(name) for _ in range(CROWD)))
    assert {domain.id for domain in found if domain} == {tenant.domain.id}
    await asyncio.gather(*(remembering.rules(tenant.domain) for _ in range(CROWD)))
    assert (len(domains), len(rules)) == (1, 1)


async def test_nothing_is_kept_of_a_question_that_nobody_asks() -> None:
    asked = SameQuestion()
    async with asked("a"), asked("b"):
        assert len(asked) == 2
    gc.collect()
    assert len(asked) == 0


async def test_whoever_waits_asks_again_if_the_first_gave_up() -> None:
    asked, answers = SameQuestion(), []

    async def ask(seconds: float) -> None:
        async with asked("a"):
            await asyncio.sleep(seconds)
            answers.append(seconds)

    first, second = asyncio.create_task(ask(3600)), asyncio.create_task(ask(0))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert answers == [0]
