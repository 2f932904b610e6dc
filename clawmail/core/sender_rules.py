"""Senders that a domain, or one of its inboxes, always or never hears.

The door asks these rules at every RCPT (``core.strangers``), from memory; a change is felt everywhere within seconds.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from clawmail.base.errors import Conflict, Invalid, NotFound
from clawmail.base.ids import new_id
from clawmail.model.senders import SenderRule, Verdict
from clawmail.model.tenancy import Principal
from clawmail.protocol.senders import parse_pattern
from clawmail.store import directory, strangers
from clawmail.store.db import Database

#: rules of one domain and its inboxes.
MAX_RULES = 10_000


class SenderRules:
    """What a domain's owner says about senders."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self, owner: Principal) -> list[SenderRule]:
        """The domain's rules and those of its inboxes, oldest first."""
        async with self._db.connection() as conn:
            return await strangers.sender_rules(conn, owner.domain_id, limit=MAX_RULES)

    async def say(
        self, owner: Principal, verdict: Verdict, sender: str, now: datetime, *, inbox: str | None = None
    ) -> SenderRule:
        """Makes ``verdict`` the last word about ``sender``, for the domain or for one inbox of it.

        Raises Invalid for a sender that is no pattern, NotFound for an inbox of somebody else, Conflict when there
        are too many rules.
        """
        pattern = parse_pattern(sender)
        if pattern is None:
            raise Invalid(
                f"{sender} names no sender; write user@host, host, .host or a network like 192.0.2.0/24", field="sender"
            )
        async with self._db.transaction() as conn:
            found = await directory.inbox(conn, inbox) if inbox is not None else None
            if inbox is not None and (found is None or found.domain_id != owner.domain_id):
                raise NotFound(f"There is no inbox {inbox}")
            if len(await strangers.sender_rules(conn, owner.domain_id, limit=MAX_RULES)) >= MAX_RULES:
                raise Conflict(f"A domain has at most {MAX_RULES} rules about senders")
            inbox_id = found.id if found is not None else None
            rule = SenderRule(new_id(), owner.organisation_id, owner.domain_id, inbox_id, verdict, pattern, now)
            return await strangers.add_sender_rule(conn, rule)

    async def take_back(self, owner: Principal, rule_id: UUID) -> None:
        """Removes a rule. Raises NotFound unless it is one of the domain's."""
        async with self._db.transaction() as conn:
            if not await strangers.remove_sender_rule(conn, rule_id, owner.domain_id):
                raise NotFound("There is no such rule")
