"""The directory: which domains, inboxes and rules there are, from memory.

Every RCPT asks it, so it must not cost a round trip. What it remembers of a domain is dropped when any process changes
that domain (NOTIFY in the changing transaction), when notifications may have been lost, and after a minute whatever
happens. Names that do not exist are remembered as well, in bounded number: strangers choose them.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clawmail.base.ids import new_id
from clawmail.core.routing import CompiledRule, compile_rules
from clawmail.core.same_question import SameQuestion
from clawmail.model.tenancy import DkimKey, Domain, Inbox
from clawmail.protocol.address import folded
from clawmail.store import directory as store
from clawmail.store.db import Database

#: seconds that an entry is believed without being told of a change.
MAX_AGE_SECONDS = 60.0
#: domains remembered, known and unknown ones.
MAX_DOMAINS = 20_000
#: local parts remembered of one domain, known and unknown ones.
MAX_LOCAL_PARTS = 10_000
#: local parts of all domains that are looked up before everything is forgotten: the limits above multiply.
MAX_LOOK_UPS = 500_000


@dataclass(slots=True)
class _Entry:
    """What is remembered of one domain name."""

    domain: Domain | None
    read_at: float
    inboxes: dict[str, Inbox | None] = field(default_factory=dict)
    rules: tuple[CompiledRule, ...] | None = None
    keys: tuple[DkimKey, ...] | None = None


class Directory:
    """Domains, inboxes, rules and signing keys of this installation."""

    def __init__(
        self,
        db: Database,
        *,
        catch_all_local_part: str,
        quota_bytes: int,
        catches_all: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``catches_all``: mail for unknown names goes to the catch-all, which is made when it is first needed."""
        self._db = db
        self._catch_all = catch_all_local_part
        self._quota = quota_bytes
        self._catches_all = catches_all
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changes_heard = 0
        self._look_ups = 0
        self._asked = SameQuestion()

    def start(self) -> None:
        """Begins to hear of changes that other processes make."""
        self._db.listen(store.CHANNEL, self.forget, lost=self.forget_all)

    def forget(self, domain_name: str) -> None:
        """Drops what is remembered of a domain."""
        self._changes_heard += 1
        self._entries.pop(domain_name, None)

    def forget_all(self) -> None:
        """Drops everything: changes may have gone unheard."""
        self._changes_heard += 1
        self._entries.clear()

    @property
    def remembers(self) -> int:
        """How many local parts are remembered."""
        return sum(len(entry.inboxes) for entry in self._entries.values())

    async def domain(self, name: str) -> Domain | None:
        """The live domain of that name (lower case, A-labels); None if there is none."""
        return (await self._entry(name)).domain

    async def inbox(self, address: str) -> Inbox | None:
        """The inbox of exactly that address, however it is written."""
        local_part, _, name = address.rpartition("@")
        domain = await self.domain(name.lower())
        return await self._exact(domain, local_part) if domain else None

    async def inbox_for(self, domain: Domain, local_part: str) -> Inbox | None:
        """Where mail for ``local_part`` goes: its own inbox, else the domain's catch-all, made now if need be."""
        found = await self._exact(domain, local_part)
        if found is None and self._catches_all:
            found = await self.catch_all(domain)
        return found

    async def catch_all(self, domain: Domain) -> Inbox | None:
        """The domain's catch-all, made now if it is not there; None when the domain itself is gone."""
        found = await self._exact(domain, self._catch_all)
        if found is None:
            async with self._db.transaction() as conn:
                await store.add_catch_all(conn, new_id(), domain, self._catch_all, self._quota, datetime.now(UTC))
                await store.changed(conn, domain.name)
            self.forget(domain.name)
            found = await self._exact(domain, self._catch_all)
        return found

    async def rules(self, domain: Domain) -> tuple[CompiledRule, ...]:
        """The domain's active forwarding rules, ready to match."""
        entry = await self._entry(domain.name)
        if entry.rules is None:
            async with self._asked((domain.name, "rules")):
                if entry.rules is None:
                    async with self._db.connection() as conn:
                        found = await store.rules(conn, domain.id)
                    # A costly pattern takes a millisecond, and there may be two hundred.
                    entry.rules = await asyncio.to_thread(compile_rules, found) if found else ()
        return entry.rules

    async def signing_keys(self, domain: Domain) -> tuple[DkimKey, ...]:
        """The domain's active DKIM keys, sealed."""
        entry = await self._entry(domain.name)
        if entry.keys is None:
            async with self._db.connection() as conn:
                entry.keys = tuple(await store.active_keys(conn, domain.id))
        return entry.keys

    async def _entry(self, name: str) -> _Entry:
        if (entry := self._known(name)) is not None:
            return entry
        async with self._asked(name):
            if (entry := self._known(name)) is not None:
                return entry
            changes_heard = self._changes_heard
            async with self._db.connection() as conn:
                fresh = _Entry(await store.domain(conn, name, datetime.now(UTC)), self._clock())
            # A change heard while we read may be newer than what we read: use it this once, do not remember it.
            if changes_heard == self._changes_heard:
                self._entries[name] = fresh
                self._entries.move_to_end(name)
                while len(self._entries) > MAX_DOMAINS:
                    self._entries.popitem(last=False)
        return fresh

    def _known(self, name: str) -> _Entry | None:
        entry = self._entries.get(name)
        return entry if entry is not None and self._clock() - entry.read_at < MAX_AGE_SECONDS else None

    async def _exact(self, domain: Domain, local_part: str) -> Inbox | None:
        entry = await self._entry(domain.name)
        key = folded(local_part)
        if key not in entry.inboxes:
            async with self._db.connection() as conn:
                found = await store.inbox(conn, f"{key}@{domain.name}")
            if len(entry.inboxes) >= MAX_LOCAL_PARTS:
                entry.inboxes.clear()
            entry.inboxes[key] = found
            self._look_ups += 1
            if self._look_ups >= MAX_LOOK_UPS:
                self._look_ups = 0
                self._entries.clear()
        return entry.inboxes[key]
