"""Inboxes of a domain and the keys that open them.

An inbox key is made with the domain's token, or with a creation key: a token for one use within the hour, which makes
a new inbox and nothing else, so that it can be given to an agent that is not trusted with the whole domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from clawmail.base.errors import Conflict, Invalid, NotFound, Unauthenticated
from clawmail.base.ids import as_uuid, new_id
from clawmail.base.log import logger
from clawmail.base.secrets import PREFIX_LENGTH
from clawmail.base.settings import Inbox as InboxSettings
from clawmail.core.access import WRONG, Access, stored_key
from clawmail.model.accounts import InboxKey, InboxOverview
from clawmail.model.tenancy import Inbox, KeyKind, Principal
from clawmail.protocol.address import Address, folded, parse_address
from clawmail.store import accounts, directory, keys
from clawmail.store.db import Connection, Database

#: how long a creation key opens.
CREATION_KEY_LIFE = timedelta(hours=1)
#: how long it is kept afterwards, for those who wonder what became of it; and how many are deleted in one go.
CREATION_KEY_KEPT = timedelta(days=30)
FORGOTTEN_AT_ONCE = 5000
MAX_LABEL_CHARACTERS = 200

log = logger("inboxes")


@dataclass(frozen=True, slots=True)
class NewCreationKey:
    """A creation key, shown once."""

    id: UUID
    text: str
    prefix: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewInboxKey:
    """An inbox key, shown once."""

    id: UUID
    text: str
    prefix: str
    #: address of the inbox it opens.
    address: str
    label: str


class Inboxes:
    """What a domain's owner does with inboxes and their keys."""

    def __init__(
        self, db: Database, *, access: Access, changed: Callable[[str], None], settings: InboxSettings
    ) -> None:
        """``changed`` is told the name of each domain that changed here, so that this process forgets it at once."""
        self._db = db
        self._access = access
        self._changed = changed
        self._settings = settings

    async def all(self, owner: Principal) -> list[InboxOverview]:
        """The domain's inboxes, oldest first."""
        async with self._db.connection() as conn:
            return await accounts.inboxes(conn, owner.domain_id)

    async def new_creation_key(self, owner: Principal, now: datetime) -> NewCreationKey:
        """A key that makes one inbox within the hour."""
        expires_at = now + CREATION_KEY_LIFE
        key, text = await stored_key("creation", owner, now, expires_at=expires_at)
        async with self._db.transaction() as conn:
            await self._hold_domain(conn, owner)
            await keys.add(conn, key)
        return NewCreationKey(key.id, text, key.prefix, expires_at)

    async def new_inbox_key(self, caller: Principal, email: str, label: str, now: datetime) -> NewInboxKey:
        """A key for the inbox ``email``, which is made if it is missing.

        A creation key only makes new inboxes, and only once. Raises Invalid, Conflict when a creation key is used for
        an inbox that is there, Unauthenticated when it has just been used.
        """
        if len(label) > MAX_LABEL_CHARACTERS:
            raise Invalid(f"label: at most {MAX_LABEL_CHARACTERS} characters", field="label")
        address = self._address(caller, email)
        async with self._db.transaction() as conn:
            await self._hold_domain(conn, caller)
            if caller.kind == "creation" and not await keys.use_up(conn, caller.key_id, now):
                raise Unauthenticated(WRONG["creation"])
            inbox = await self._found_or_made(conn, caller, address, now)
            key, text = await stored_key("inbox", caller, now, inbox_id=inbox.id, label=label)
            await keys.add(conn, key)
        self._changed(caller.domain_name)
        log.info("inbox key made", inbox=inbox.address, prefix=key.prefix)
        return NewInboxKey(key.id, text, key.prefix, inbox.address, label)

    async def list_keys(self, owner: Principal) -> list[InboxKey]:
        """The domain's inbox keys, oldest first, revoked ones too."""
        await self._access.note_uses()
        async with self._db.connection() as conn:
            return await keys.inbox_keys(conn, owner.domain_id)

    async def revoke_inbox_key(self, owner: Principal, id_or_prefix: str, now: datetime) -> None:
        """An inbox key stops working at once. Raises NotFound, Conflict for a prefix that two keys share."""
        await self._revoke(owner, "inbox", id_or_prefix, now, "API key not found")

    async def revoke_creation_key(self, owner: Principal, id_or_prefix: str, now: datetime) -> None:
        """An unused creation key stops working at once. Raises NotFound, Conflict for a prefix that two keys share."""
        await self._revoke(owner, "creation", id_or_prefix, now, "Inbox creation key not found")

    async def revoke_for_operator(self, id_or_prefix: str, now: datetime) -> None:
        """An inbox key of any domain stops working at once. Raises NotFound, Conflict for a prefix two keys share."""
        await self._revoke(None, "inbox", id_or_prefix, now, "API key not found")

    async def forget_creation_keys(self, now: datetime) -> int:
        """Deletes creation keys that have been of no use for a month; returns how many."""
        async with self._db.connection() as conn:
            return await keys.forget_creation_keys(conn, now - CREATION_KEY_KEPT, FORGOTTEN_AT_ONCE)

    async def add(self, owner: Principal, email: str, now: datetime, *, quota_bytes: int | None = None) -> Inbox:
        """A new inbox without a key. Raises Invalid, Conflict if it is there."""
        address = self._address(owner, email)
        async with self._db.transaction() as conn:
            await self._hold_domain(conn, owner)
            inbox = self._new_inbox(owner, address, now, quota_bytes)
            if not await accounts.add_inbox(conn, inbox):
                raise Conflict("Inbox already exists", code="inbox_exists")
            await directory.changed(conn, owner.domain_name)
        self._changed(owner.domain_name)
        return inbox

    async def set_quota(self, owner: Principal, email: str, quota_bytes: int) -> None:
        """How much an inbox may hold, in bytes. Raises NotFound."""
        async with self._db.transaction() as conn:
            if not await accounts.set_quota(conn, email, owner.domain_id, quota_bytes):
                raise NotFound("Inbox not found")
            await directory.changed(conn, owner.domain_name)
        self._changed(owner.domain_name)

    async def remove(self, owner: Principal, email: str, now: datetime) -> None:
        """Takes an inbox and its keys out of service. Raises NotFound."""
        async with self._db.transaction() as conn:
            if not await accounts.remove_inbox(conn, email, owner.domain_id, now):
                raise NotFound("Inbox not found")
            await keys.changed(conn, owner.domain_id)
            await directory.changed(conn, owner.domain_name)
        self._access.forget(owner.domain_id)
        self._changed(owner.domain_name)

    async def _found_or_made(self, conn: Connection, caller: Principal, address: Address, now: datetime) -> Inbox:
        found = await accounts.inbox_for_share(conn, str(address))
        if found is None:
            inbox = self._new_inbox(caller, address, now, None)
            if await accounts.add_inbox(conn, inbox):
                await directory.changed(conn, caller.domain_name)
                return inbox
            found = await accounts.inbox_for_share(conn, str(address))
        if caller.kind == "creation" or found is None:
            raise Conflict("Inbox already exists", code="inbox_exists")
        return found

    def _new_inbox(self, owner: Principal, address: Address, now: datetime, quota_bytes: int | None) -> Inbox:
        return Inbox(
            id=new_id(),
            organisation_id=owner.organisation_id,
            domain_id=owner.domain_id,
            local_part=address.local,
            address=str(address),
            is_catch_all=folded(address.local) == folded(self._settings.catch_all_local_part),
            storage_quota_bytes=self._settings.storage_quota_bytes if quota_bytes is None else quota_bytes,
            created_at=now,
        )

    @staticmethod
    def _address(owner: Principal, email: str) -> Address:
        address = parse_address(email)
        if address is not None and address.smtputf8:
            address = parse_address(folded(str(address)))
        if address is None:
            raise Invalid("email: expected an address like agent@" + owner.domain_name, field="email")
        if address.domain != owner.domain_name:
            raise Invalid(f"Email must be on the domain {owner.domain_name}", field="email")
        return address

    @staticmethod
    async def _hold_domain(conn: Connection, owner: Principal) -> None:
        """The domain cannot be removed before this transaction ends."""
        if not await accounts.lock_domain(conn, owner.domain_id):
            raise Unauthenticated(WRONG["domain"])

    async def _revoke(
        self, owner: Principal | None, kind: KeyKind, id_or_prefix: str, now: datetime, missing: str
    ) -> None:
        domain_id = owner.domain_id if owner is not None else None
        key_id = as_uuid(id_or_prefix)
        prefix = id_or_prefix if len(id_or_prefix) == PREFIX_LENGTH else ""
        async with self._db.transaction() as conn:
            found = await keys.revocable(conn, domain_id, kind, key_id, prefix, now)
            if not found:
                raise NotFound(missing)
            if len(found) > 1:
                raise Conflict("Two keys have this prefix; use the id", code="ambiguous_prefix")
            await keys.revoke(conn, found[0], now)
        self._access.forget(found[0])
        log.info("key revoked", kind=kind, id=str(found[0]))
