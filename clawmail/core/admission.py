"""Admission: whether mail for an address is taken, and where it goes. Asked at every RCPT, answered from memory.

We are never an open relay: only addresses of verified domains are taken, and return paths that we made ourselves.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from uuid import UUID

from clawmail.core.directory import Directory
from clawmail.core.envelope import Recipient, Refused
from clawmail.core.outbound.feedback import Feedback
from clawmail.model.tenancy import Domain, Inbox
from clawmail.protocol.address import normalise_domain, parse_address
from clawmail.store import directory as store
from clawmail.store.db import Database

#: seconds during which an inbox that refused a message for its size is asked again at RCPT.
FULL_SECONDS = 3600.0
#: inboxes remembered as nearly full.
MAX_NEARLY_FULL = 10_000


class Admission:
    """Judges recipients."""

    def __init__(self, db: Database, directory: Directory, feedback: Feedback, *, app_domain: str) -> None:
        """``app_domain``: where mail for a bare <postmaster> goes (RFC 5321 section 4.5.1)."""
        self._db = db
        self._directory = directory
        self._feedback = feedback
        self._app_domain = app_domain.lower()
        #: inboxes that refused a message as too large for what they have left: when, and how large it was.
        self._nearly_full: OrderedDict[UUID, tuple[float, int]] = OrderedDict()

    async def judge(self, address: str) -> Recipient:
        """The recipient that ``address`` is. Raises Refused, or StoreUnwell."""
        if address.lower() == "postmaster":
            address = f"postmaster@{self._app_domain}"
        # Before the syntax: a sender rewritten by SRS may be longer than RFC 5321 lets a local part be.
        return_path = self._feedback.recognise(address, time.time())
        if return_path is not None:
            domain = await self._ours(normalise_domain(address.rpartition("@")[2]) or "")
            if return_path.forged:
                raise Refused(550, "5.7.1", "this return path was not made here, or has expired")
            # No question whether it is full: what a bounce says counts even if there is no room to file it.
            home = await self._feedback.home(return_path, domain)
            return Recipient(
                address, await self._directory.inbox(home) if home else None, domain, None, None, return_path
            )
        parsed = parse_address(address)
        if parsed is None:
            raise Refused(553, "5.1.3", "this is not an address mail can be sent to")
        domain = await self._ours(parsed.domain)
        inbox = await self._directory.inbox_for(domain, parsed.local)
        if inbox is None:
            raise Refused(550, "5.1.1", "no such mailbox")
        await self._refuse_if_full(inbox)
        return Recipient(str(parsed), inbox, domain)

    def note_full(self, inbox_id: UUID, size: int) -> None:
        """An inbox had no room for a message of ``size`` bytes."""
        self._nearly_full[inbox_id] = (time.monotonic(), size)
        while len(self._nearly_full) > MAX_NEARLY_FULL:
            self._nearly_full.popitem(last=False)

    async def _ours(self, name: str) -> Domain:
        domain = await self._directory.domain(name)
        if domain is None:
            raise Refused(550, "5.7.1", f"no mail is taken for {name} here")
        if not domain.verified:
            raise Refused(550, "5.1.2", f"{name} is not verified yet")
        return domain

    async def _refuse_if_full(self, inbox: Inbox) -> None:
        """Asks the store only about inboxes that lately had no room: the usual RCPT costs no round trip."""
        mark = self._nearly_full.get(inbox.id)
        if mark is None:
            return
        since, size = mark
        async with self._db.connection() as conn:
            used = await store.used_bytes(conn, inbox.id)
        if used + size > inbox.storage_quota_bytes and time.monotonic() - since < FULL_SECONDS:
            raise Refused(552, "5.2.2", "mailbox is full")
        self._nearly_full.pop(inbox.id, None)
