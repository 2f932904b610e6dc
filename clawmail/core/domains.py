"""Domains of tenants: registered, proved through DNS, removed.

A registration is pending for 72 hours. Whoever registers the same name again takes the pending place over: the token
and the TXT value before it stop working. A name becomes its holder's when TXT, MX and A all say so, or by the
operator's word ("trusted"), and stays until it is removed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from clawmail.base.errors import Conflict, Invalid, NotFound, Unauthenticated
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.settings import Settings
from clawmail.core import dns_setup
from clawmail.core.access import Access, stored_key
from clawmail.core.dkim_keys import DkimKeys
from clawmail.model.tenancy import DkimKey, Domain, Principal
from clawmail.protocol.address import normalise_domain
from clawmail.protocol.dns import Resolver
from clawmail.store import accounts, directory, keys
from clawmail.store.db import Connection, Database

#: how long a registration waits for its DNS.
PENDING = timedelta(hours=72)
#: bytes of randomness in the value that the TXT record has to show.
VERIFICATION_BYTES = 16
#: registrations deleted in one go of upkeep.
FORGOTTEN_AT_ONCE = 200
#: octets of a name, so that those of its records fit into the 253 that DNS allows (RFC 1035 section 2.3.4).
MAX_NAME_OCTETS = 200

log = logger("domains")


@dataclass(frozen=True, slots=True)
class Registered:
    """A pending domain and the token that was made for it."""

    domain: Domain
    #: shown once.
    token: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A verified domain and the key it signs with."""

    domain: Domain
    dkim: DkimKey


class Domains:
    """What tenants and the operator do with domains."""

    def __init__(
        self,
        db: Database,
        *,
        access: Access,
        dkim_keys: DkimKeys,
        changed: Callable[[str], None],
        resolver: Resolver,
        settings: Settings,
    ) -> None:
        """``resolver`` should not remember answers: people change their DNS and ask again at once.

        ``changed`` is told the name of each domain that changed here, so that this process forgets it at once.
        """
        self._db = db
        self._access = access
        self._dkim_keys = dkim_keys
        self._changed = changed
        self._resolver = resolver
        self.host = dns_setup.host_of(settings.server.mx_label, settings.server.public_ip)

    async def register(self, name: str, now: datetime) -> Registered:
        """Makes ``name`` pending with a new token and TXT value; a token of an earlier registration stops working.

        Raises Invalid for what is no domain name, Conflict for a verified domain.
        """
        name = domain_name(name)
        value = f"clawmail-verify={secrets.token_hex(VERIFICATION_BYTES)}"
        async with self._db.transaction() as conn:
            domain = await self._make_pending(conn, name, value, now)
            token = await new_token(conn, domain, now)
        self._access.forget(domain.id)
        self._changed(name)
        log.info("domain registered", domain=name)
        return Registered(domain, token)

    async def verify(self, token: str, now: datetime) -> Verified:
        """Looks at the DNS and, if TXT, MX and A are right, makes the token's domain verified, with a signing key.

        A domain that is verified already is answered in the same way. Raises NotFound for a token that is wrong or too
        old, Invalid when DNS does not show what it has to.
        """
        try:
            principal = await self._access.domain(token, pending=True)
        except Unauthenticated:
            raise _no_such_token() from None
        async with self._db.connection() as conn:
            domain = await accounts.domain_by_id(conn, principal.domain_id)
        if domain is None:
            raise _no_such_token()
        return await self._proved(domain, now)

    async def verify_for_operator(self, name: str, now: datetime) -> Verified:
        """The same for the operator, who needs no token. Raises NotFound, or Invalid as ``verify`` does."""
        async with self._db.transaction() as conn:
            domain = await self._live(conn, name)
        return await self._proved(domain, now)

    async def add_trusted(self, name: str, now: datetime) -> Registered:
        """A domain verified by the operator's word, without DNS. Raises Invalid, Conflict if it is verified already."""
        registered = await self.register(name, now)
        await self._make_verified(registered.domain, trusted=True, now=now)
        await self._dkim_keys.active(registered.domain, now)
        domain = replace(registered.domain, state="verified", trusted=True, verified_at=now, pending_until=None)
        return Registered(domain, registered.token)

    async def another_token(self, name: str, now: datetime) -> str:
        """One more token for a domain whose owner has lost his. Raises NotFound."""
        async with self._db.transaction() as conn:
            return await new_token(conn, await self._live(conn, name), now)

    async def all(self, now: datetime) -> list[Domain]:
        """Every live domain of the installation, by name."""
        async with self._db.connection() as conn:
            return await accounts.domains(conn, now)

    async def of(self, principal: Principal) -> list[Domain]:
        """The domains that the caller's key opens."""
        async with self._db.connection() as conn:
            domain = await accounts.domain_by_id(conn, principal.domain_id)
        return [domain] if domain else []

    async def owner(self, name: str) -> Principal:
        """The operator in the place of a domain's owner. Raises NotFound."""
        async with self._db.transaction() as conn:
            domain = await self._live(conn, name)
        return Principal("domain", domain.id, domain.organisation_id, domain.id, domain.name)

    async def records(self, principal: Principal, name: str, now: datetime) -> list[dns_setup.RecordCheck]:
        """The records to publish for the caller's domain and what DNS says of each now.

        A DKIM key that waits for its record and is seen goes to work. Raises NotFound for another's domain.
        """
        domain = await self._own(principal, name)
        keys_in_use = await self._dkim_keys.in_use(domain, now)
        records = await dns_setup.inspect(self._resolver, domain, keys_in_use, self.host)
        await self._dkim_keys.promote_seen(domain, keys_in_use, records, now)
        return records

    async def rotate_dkim(self, principal: Principal, name: str, now: datetime) -> DkimKey:
        """The next DKIM key of the caller's domain, which signs as soon as its record is seen. Raises NotFound."""
        return await self._dkim_keys.rotate(await self._own(principal, name), now)

    async def remove(self, principal: Principal, name: str, now: datetime) -> None:
        """Takes the caller's domain out of service with its inboxes, keys and rules. Raises NotFound for another's."""
        domain = await self._own(principal, name)
        async with self._db.transaction() as conn:
            await accounts.remove_domain(conn, domain.id, now)
            await keys.changed(conn, domain.id)
            await directory.changed(conn, domain.name)
        self._access.forget(domain.id)
        self._changed(domain.name)
        log.info("domain removed", domain=domain.name)

    async def forget_expired(self, now: datetime) -> int:
        """Deletes registrations that nobody verified in time; returns how many."""
        async with self._db.transaction() as conn:
            return await accounts.forget_expired(conn, now, FORGOTTEN_AT_ONCE)

    async def _make_pending(self, conn: Connection, name: str, value: str, now: datetime) -> Domain:
        await accounts.lock_name(conn, name)
        domain = await accounts.domain_for_update(conn, name)
        if domain is None:
            domain = Domain(new_id(), new_id(), name, "pending", value, False, now, None, now + PENDING)
            await accounts.add_pending(conn, domain)
        elif domain.verified:
            raise Conflict("Domain is already verified", code="domain_already_verified")
        else:
            domain = replace(domain, verification_value=value, pending_until=now + PENDING)
            await accounts.renew_pending(conn, domain)
            await keys.drop_tokens(conn, domain.id)
        await directory.changed(conn, name)
        return domain

    async def _proved(self, domain: Domain, now: datetime) -> Verified:
        if not domain.verified:
            ownership = await dns_setup.check_ownership(self._resolver, domain, self.host)
            if not ownership.proved:
                raise Invalid(f"DNS verification failed. {ownership}", code="dns_verification_failed")
            await self._make_verified(domain, trusted=False, now=now)
            domain = replace(domain, state="verified", verified_at=now, pending_until=None)
        return Verified(domain, await self._dkim_keys.active(domain, now))

    async def _make_verified(self, domain: Domain, *, trusted: bool, now: datetime) -> None:
        async with self._db.transaction() as conn:
            current = await accounts.domain_for_update(conn, domain.name)
            # Registered anew while we looked at the DNS: what we saw proves nothing for the new token.
            if current is None or current.verification_value != domain.verification_value:
                raise _no_such_token()
            await accounts.verify_domain(conn, domain.id, trusted=trusted, now=now)
            await keys.changed(conn, domain.id)
            await directory.changed(conn, domain.name)
        self._access.forget(domain.id)
        self._changed(domain.name)
        log.info("domain verified", domain=domain.name, trusted=trusted)

    async def _own(self, principal: Principal, name: str) -> Domain:
        async with self._db.connection() as conn:
            domain = await accounts.domain_by_id(conn, principal.domain_id)
        if domain is None or normalise_domain(name) != domain.name:
            raise NotFound("Domain not found")
        return domain

    async def _live(self, conn: Connection, name: str) -> Domain:
        domain = await accounts.domain_for_update(conn, normalise_domain(name) or name)
        if domain is None:
            raise NotFound(f"There is no domain {name}; clawmail domain list shows those there are")
        return domain


def domain_name(text: str) -> str:
    """A name that can be registered, as lower-case A-labels. Raises Invalid."""
    name = normalise_domain(text.strip())
    if (
        name is None
        or "." not in name
        or "_" in name
        or name.rpartition(".")[2].isdigit()
        or len(name) > MAX_NAME_OCTETS
    ):
        raise Invalid("domain: expected a domain name like example.com", field="domain")
    return name


async def new_token(conn: Connection, domain: Domain, now: datetime) -> str:
    """A new token of a domain, stored as its hash; returns its text."""
    owner = Principal("domain", domain.id, domain.organisation_id, domain.id, domain.name)
    key, token = await stored_key("domain", owner, now)
    await keys.add(conn, key)
    return token


def _no_such_token() -> NotFound:
    return NotFound("Invalid or expired verification token")
