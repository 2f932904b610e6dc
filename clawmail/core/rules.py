"""Forwarding rules as their owner sees them: made, listed, deleted. How they match is ``core.routing``'s matter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from clawmail.base.errors import Conflict, Invalid, NotFound, Unauthenticated
from clawmail.base.ids import as_uuid, new_id
from clawmail.core.access import WRONG
from clawmail.core.routing import MAX_RULES, check_together, compile_rule
from clawmail.model.tenancy import ForwardingRule, MatchField, Principal
from clawmail.protocol.address import parse_address
from clawmail.store import accounts, directory
from clawmail.store.db import Database


class Rules:
    """The forwarding rules of a domain."""

    def __init__(self, db: Database, *, changed: Callable[[str], None]) -> None:
        """``changed`` is told the name of each domain that changed here, so that this process forgets it at once."""
        self._db = db
        self._changed = changed

    async def all(self, owner: Principal) -> list[ForwardingRule]:
        """The domain's rules, oldest first."""
        async with self._db.connection() as conn:
            return await accounts.rules(conn, owner.domain_id)

    async def add(
        self, owner: Principal, match_field: MatchField, pattern: str, destination: str, now: datetime
    ) -> ForwardingRule:
        """A new rule, which counts from the next mail on.

        Raises Invalid for a pattern RE2 does not take, or too costly beside the domain's others, and for a destination
        mail cannot go to; Conflict for one too many.
        """
        compile_rule(pattern)
        address = parse_address(destination)
        if address is None or address.domain.startswith("["):
            raise Invalid("destination_email: expected an address like alerts@example.com", field="destination_email")
        rule = ForwardingRule(
            new_id(), owner.organisation_id, owner.domain_id, match_field, pattern, str(address), True, now
        )
        async with self._db.transaction() as conn:
            if not await accounts.lock_domain(conn, owner.domain_id):
                raise Unauthenticated(WRONG["domain"])
            if await accounts.count_rules(conn, owner.domain_id) >= MAX_RULES:
                raise Conflict(f"A domain has at most {MAX_RULES} forwarding rules", code="too_many_rules")
            await asyncio.to_thread(check_together, await accounts.rules(conn, owner.domain_id), rule)
            await accounts.add_rule(conn, rule)
            await directory.changed(conn, owner.domain_name)
        self._changed(owner.domain_name)
        return rule

    async def delete(self, owner: Principal, rule_id: str) -> None:
        """Deletes a rule at once. Raises NotFound for one that is not the domain's."""
        async with self._db.transaction() as conn:
            if not (identifier := as_uuid(rule_id)) or not await accounts.delete_rule(
                conn, identifier, owner.domain_id
            ):
                raise NotFound("Forwarding rule not found")
            await directory.changed(conn, owner.domain_name)
        self._changed(owner.domain_name)
