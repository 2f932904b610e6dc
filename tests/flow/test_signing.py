"""Mail that is signed at the same moment is signed together: each with its own key, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from clawmail.base.secrets import Keyring
from clawmail.core.directory import Directory
from clawmail.core.dkim_keys import DkimKeys
from clawmail.core.signing import MAX_BATCH, SMALL_BYTES, Signers
from clawmail.protocol.dkim.verify import verify_dkim
from clawmail.protocol.headers import split_message
from clawmail.store.db import Database
from tests.support.tenants import Tenant, add_tenant
from tests.support.zones import ScriptedResolver

KEYRING = Keyring(b"k" * 32)


def message(number: int, size: int = 0) -> bytes:
    return f"From: agent@example.test\r\nSubject: {number}\r\n\r\nmail {number} {'x' * size}\r\n".encode()


@contextlib.asynccontextmanager
async def signers_of(db: Database) -> AsyncIterator[Signers]:
    signers = Signers(Directory(db, catch_all_local_part="catchall", quota_bytes=1), KEYRING)
    try:
        yield signers
    finally:
        signers.close()


async def key_of(db: Database, tenant: Tenant) -> dict[str, dict[str, list[str]]]:
    """Makes the domain's key; the zone that shows it."""
    keys = DkimKeys(db, keyring=KEYRING, resolver=ScriptedResolver({}), changed=lambda _name: None)
    key = await keys.active(tenant.domain, datetime.now(UTC))
    return {f"{key.selector}._domainkey.{tenant.domain.name}": {"TXT": [key.public_record]}}


async def test_each_of_a_crowd_gets_the_signature_of_its_own_domain(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    resolver = ScriptedResolver(await key_of(db, tenant) | await key_of(db, other))
    mails = [(one, message(number)) for number in range(MAX_BATCH + 3) for one in (tenant, other)]
    mails.append((tenant, message(99, 2 * SMALL_BYTES)))
    async with signers_of(db) as signers:
        signatures = await asyncio.gather(*(signers.sign(one.domain, raw) for one, raw in mails))
    for (owner, raw), signature in zip(mails, signatures, strict=True):
        (result,) = await verify_dkim(split_message(signature + raw), resolver, now=time.time())
        assert (result.result, result.signing_domain) == ("pass", owner.domain.name)


async def test_what_is_wrong_with_one_is_its_owners_to_hear(db: Database, tenant: Tenant) -> None:
    await key_of(db, tenant)
    async with signers_of(db) as signers:
        await signers.keys_of(tenant.domain)
        waiting = [asyncio.create_task(signers.sign(tenant.domain, message(number))) for number in range(3)]
        no_message = asyncio.create_task(signers.sign(tenant.domain, "text"))  # type: ignore[arg-type]  # on purpose
        await asyncio.sleep(0)
        waiting[1].cancel()
        found = await asyncio.gather(*waiting, no_message, return_exceptions=True)
        assert [type(one) for one in found] == [bytes, asyncio.CancelledError, bytes, AttributeError]
        assert await signers.sign(tenant.domain, message(4))


async def test_nobody_waits_for_threads_that_have_ended(db: Database, tenant: Tenant) -> None:
    await key_of(db, tenant)
    async with signers_of(db) as signers:
        await signers.keys_of(tenant.domain)
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(signers.sign(tenant.domain, message(1)))


async def test_a_domain_without_a_key_signs_nothing(db: Database, tenant: Tenant) -> None:
    async with signers_of(db) as signers:
        assert await signers.sign(replace(tenant.domain, name="nowhere.test"), message(1)) == b""
