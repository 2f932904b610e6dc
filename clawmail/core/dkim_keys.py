"""A domain's DKIM keys: one signs, the next one waits for its DNS record, old ones retire.

A key that is rotated in signs nothing before its record has been seen, and the key it follows signs until then, so
there is no moment in which receivers cannot check a signature. Retired keys sign no more; their records should stay a
while for mail that is still on its way. Private keys are sealed and bound to their row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from clawmail.base.errors import NotFound
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.secrets import Keyring
from clawmail.core.dns_setup import RecordCheck, dkim_name, key_is_published
from clawmail.model.tenancy import DkimKey, Domain
from clawmail.protocol.dkim.sign import generate_ed25519_key, generate_rsa_key
from clawmail.protocol.dns import Resolver
from clawmail.store import accounts, directory
from clawmail.store.db import Database

Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

#: waiting keys looked at in one go of upkeep, and DNS look-ups at a time.
WAITING_AT_ONCE = 200
LOOKUPS_AT_A_TIME = 20
#: an RSA key takes tens of milliseconds to make; more at a time would take the cores from the mail.
KEYS_AT_A_TIME = 2

log = logger("domains")


class DkimKeys:
    """Makes, rotates and promotes signing keys."""

    def __init__(self, db: Database, *, keyring: Keyring, resolver: Resolver, changed: Callable[[str], None]) -> None:
        """``changed`` is told the name of each domain that changed here."""
        self._db = db
        self._keyring = keyring
        self._resolver = resolver
        self._changed = changed
        self._making = asyncio.Semaphore(KEYS_AT_A_TIME)

    async def active(self, domain: Domain, now: datetime) -> DkimKey:
        """The RSA key the domain signs with; made now if it has none."""
        return await self._ensured(domain, "active", "rsa-sha256", now)

    async def in_use(self, domain: Domain, now: datetime) -> list[DkimKey]:
        """The keys whose records have to be published: the active ones and those that wait, oldest first."""
        await self.active(domain, now)
        async with self._db.connection() as conn:
            keys = await accounts.dkim_keys(conn, domain.id)
        return [key for key in reversed(keys) if key.state != "retired"]

    async def rotate(self, domain: Domain, now: datetime, algorithm: Algorithm = "rsa-sha256") -> DkimKey:
        """The next key of a domain; the one that waits already, if there is one."""
        return await self._ensured(domain, "waiting", algorithm, now)

    async def promote_seen(
        self, domain: Domain, keys: Sequence[DkimKey], records: Sequence[RecordCheck], now: datetime
    ) -> None:
        """Lets those of ``keys`` that wait go to work if ``records`` shows theirs in place."""
        seen = {record.name for record in records if record.state == "ok"}
        for key in keys:
            if key.state == "waiting" and dkim_name(key.selector, domain.name) in seen:
                await self._activate(domain.name, key, now)

    async def promote_waiting_keys(self, now: datetime) -> int:
        """Looks for the records of keys that wait, at most 200 of them; returns how many went to work."""
        async with self._db.connection() as conn:
            waiting = await accounts.waiting_keys(conn, WAITING_AT_ONCE)
        turns = asyncio.Semaphore(LOOKUPS_AT_A_TIME)

        async def promoted(name: str, key: DkimKey) -> bool:
            async with turns:
                if not await key_is_published(self._resolver, name, key):
                    return False
            await self._activate(name, key, now)
            return True

        return sum(await asyncio.gather(*[promoted(name, key) for name, key in waiting]))

    async def _activate(self, domain_name: str, key: DkimKey, now: datetime) -> None:
        async with self._db.transaction() as conn:
            if await accounts.lock_domain(conn, key.domain_id):
                await accounts.activate_key(conn, key, now)
                await directory.changed(conn, domain_name)
        self._changed(domain_name)
        log.info("signing key changed", domain=domain_name, selector=key.selector)

    async def _ensured(
        self, domain: Domain, state: Literal["active", "waiting"], algorithm: Algorithm, now: datetime
    ) -> DkimKey:
        """The domain's key in that state, made if there is none. Keys are made before anything is locked."""
        async with self._db.connection() as conn:
            known = await accounts.dkim_keys(conn, domain.id)
        if found := _in_state(known, state, algorithm):
            return found
        generate = generate_rsa_key if algorithm == "rsa-sha256" else generate_ed25519_key
        async with self._making:
            private, public_record = await asyncio.to_thread(generate)
        async with self._db.transaction() as conn:
            if not await accounts.lock_domain(conn, domain.id):
                raise NotFound("Domain not found")
            known = await accounts.dkim_keys(conn, domain.id)
            if found := _in_state(known, state, algorithm):  # somebody was faster
                return found
            key_id = new_id()
            sealed = self._keyring.seal(private, bound_to=key_id.bytes)
            selector = next_selector({key.selector for key in known}, now.year)
            key = DkimKey(key_id, domain.id, selector, algorithm, sealed, public_record, state, now)
            await accounts.add_dkim_key(conn, key)
            await directory.changed(conn, domain.name)
        self._changed(domain.name)
        return key


def _in_state(keys: Sequence[DkimKey], state: str, algorithm: Algorithm) -> DkimKey | None:
    return next((key for key in keys if key.state == state and key.algorithm == algorithm), None)


def next_selector(taken: set[str], year: int) -> str:
    """clawmail2026, then clawmail2026b to clawmail2026z, then clawmail2026-27 and so on: never one used before."""
    base = f"clawmail{year}"
    names = [base, *(base + letter for letter in "bcdefghijklmnopqrstuvwxyz")]
    names += [f"{base}-{number}" for number in range(27, len(taken) + 28)]
    return next(name for name in names if name not in taken)
