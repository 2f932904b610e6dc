"""Webhooks as their owners handle them: made, listed, changed, tried out, removed, and asked what became of an event.

A domain's token sees to every endpoint of its domain, an inbox's key to those of its inbox. An endpoint stands on the
key that chose its address: when that key is revoked the endpoint is disabled with it, so that whoever had the key for
a while does not go on hearing of the mail.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

from clawmail.base.errors import Conflict, Invalid, NotFound, Unauthenticated
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.secrets import Keyring
from clawmail.core.access import WRONG
from clawmail.core.cursors import Cursors
from clawmail.core.webhooks.post import Poster
from clawmail.model.events import Event, EventType
from clawmail.model.tenancy import Principal
from clawmail.model.webhooks import Webhook, WebhookAttempt, WebhookDelivery
from clawmail.protocol.standard_webhooks import SECRET_OCTETS, secret_text
from clawmail.store import accounts
from clawmail.store import webhooks as store
from clawmail.store.db import Connection, Database

#: endpoints that listen to one inbox, and to one domain as a whole.
MAX_OF_INBOX = 5
MAX_OF_DOMAIN = 20
MAX_URL_CHARACTERS = 2048
#: for so long the secret before a rotated one signs too.
OLD_SECRET_LIFE = timedelta(hours=24)

#: what an endpoint can hear of.
EVENT_TYPES = frozenset(kind.value for kind in EventType) - {EventType.TEST.value}

log = logger("webhooks")


@dataclass(frozen=True, slots=True)
class NewSecret:
    """An endpoint and the text of its new secret, shown once."""

    webhook: Webhook
    secret: str


class DeliveryPage(NamedTuple):
    """Some events of an endpoint, newest first."""

    deliveries: list[WebhookDelivery]
    #: None on the last page.
    next_cursor: str | None


class Webhooks:
    """The endpoints of owners."""

    def __init__(
        self, db: Database, *, keyring: Keyring, poster: Poster, cursors: Cursors, allow_http: bool = False
    ) -> None:
        """``allow_http``: an address may be http, for houses whose endpoints are in their own network."""
        self._db = db
        self._keyring = keyring
        self._poster = poster
        self._cursors = cursors
        self._allow_http = allow_http

    async def all(self, owner: Principal) -> list[Webhook]:
        """The caller's endpoints, oldest first."""
        async with self._db.connection() as conn:
            return await store.of_owner(conn, owner)

    async def get(self, owner: Principal, webhook_id: UUID) -> Webhook:
        """One of them. Raises NotFound."""
        async with self._db.connection() as conn:
            return await _own(conn, owner, webhook_id)

    async def add(
        self, owner: Principal, url: str, event_types: Sequence[str], now: datetime, *, inbox: str | None = None
    ) -> NewSecret:
        """A new endpoint, which hears of what happens from now on.

        ``inbox``: the address of one inbox, where a domain's owner does not want to hear of all. Raises Invalid for
        an address or event that will not do, NotFound for an inbox that is not there, Conflict for one too many.
        """
        url, kinds = self._checked_url(url), _checked_events(event_types)
        webhook_id, secret = new_id(), secrets.token_bytes(SECRET_OCTETS)
        sealed = self._keyring.seal(secret, bound_to=webhook_id.bytes)
        async with self._db.transaction() as conn:
            await _hold(conn, owner)
            inbox_id, address = owner.inbox_id, owner.address
            if inbox is not None and inbox_id is None:
                inbox_id, address = await store.find_inbox(conn, inbox, owner.domain_id), inbox
                if inbox_id is None:
                    raise NotFound("Inbox not found")
            most, of = (MAX_OF_DOMAIN, "A domain") if inbox_id is None else (MAX_OF_INBOX, "An inbox")
            if await store.count(conn, owner.domain_id, inbox_id) >= most:
                raise Conflict(f"{of} has at most {most} webhooks", code="too_many_webhooks")
            webhook = Webhook(
                id=webhook_id,
                organisation_id=owner.organisation_id,
                domain_id=owner.domain_id,
                inbox_id=inbox_id,
                inbox=address if inbox_id is not None else None,
                url=url,
                event_types=kinds,
                secret_sealed=sealed,
                old_secret_sealed=None,
                old_secret_until=None,
                failures=0,
                failing_since=None,
                resting_until=None,
                dropped=0,
                disabled_at=None,
                disabled_reason=None,
                created_at=now,
            )
            await store.add(conn, webhook, owner.key_id)
        log.info("webhook made", webhook=str(webhook_id), domain=owner.domain_name)
        return NewSecret(webhook, secret_text(secret))

    async def change(
        self,
        owner: Principal,
        webhook_id: UUID,
        now: datetime,
        *,
        url: str | None = None,
        event_types: Sequence[str] | None = None,
        active: bool | None = None,
    ) -> Webhook:
        """Sets what is not None. Raises Invalid, NotFound."""
        url = None if url is None else self._checked_url(url)
        kinds = None if event_types is None else _checked_events(event_types)
        async with self._db.transaction() as conn:
            await _hold(conn, owner)
            await _own(conn, owner, webhook_id)
            await store.change(conn, webhook_id, owner.key_id, now, url=url, event_types=kinds, active=active)
            return await _own(conn, owner, webhook_id)

    async def rotate(self, owner: Principal, webhook_id: UUID, now: datetime) -> NewSecret:
        """A new secret; the one before signs beside it for a day. Raises NotFound."""
        secret = secrets.token_bytes(SECRET_OCTETS)
        sealed = self._keyring.seal(secret, bound_to=webhook_id.bytes)
        async with self._db.transaction() as conn:
            await _own(conn, owner, webhook_id)
            await store.rotate(conn, webhook_id, sealed, now + OLD_SECRET_LIFE)
            return NewSecret(await _own(conn, owner, webhook_id), secret_text(secret))

    async def remove(self, owner: Principal, webhook_id: UUID, now: datetime) -> None:
        """An endpoint is told nothing more. Raises NotFound."""
        async with self._db.transaction() as conn:
            await _own(conn, owner, webhook_id)
            await store.remove(conn, webhook_id, now)
        log.info("webhook removed", webhook=str(webhook_id), domain=owner.domain_name)

    async def test(self, owner: Principal, webhook_id: UUID, now: datetime) -> WebhookAttempt:
        """Tells an endpoint of an event that did not happen, at once and once. Raises NotFound."""
        webhook = await self.get(owner, webhook_id)
        event = Event(
            new_id(), webhook.organisation_id, webhook.domain_id, EventType.TEST, now, inbox_id=webhook.inbox_id
        )
        sealed = [webhook.secret_sealed]
        if webhook.old_secret_sealed is not None and webhook.old_secret_until and now < webhook.old_secret_until:
            sealed.append(webhook.old_secret_sealed)
        return await self._poster.post(webhook_id, webhook.url, tuple(sealed), event, None, now)

    async def deliveries(self, owner: Principal, webhook_id: UUID, *, cursor: str | None, limit: int) -> DeliveryPage:
        """What became of an endpoint's events. Raises NotFound, or Invalid for a cursor that is none of ours."""
        before = self._cursors.read("webhook deliveries", webhook_id, cursor)
        async with self._db.connection() as conn:
            await _own(conn, owner, webhook_id)
            found = await store.deliveries(conn, webhook_id, before=before, limit=limit + 1)
        if len(found) <= limit:
            return DeliveryPage(found, None)
        last = found[limit - 1].event_id
        return DeliveryPage(found[:limit], self._cursors.write("webhook deliveries", webhook_id, last))

    async def retry(self, owner: Principal, webhook_id: UUID, event_id: UUID, now: datetime) -> WebhookDelivery:
        """Tells an endpoint of an event once more, whatever became of it. Raises NotFound."""
        async with self._db.transaction() as conn:
            await _own(conn, owner, webhook_id)
            found = await store.retry(conn, webhook_id, event_id, now)
        if found is None:
            raise NotFound("Delivery not found")
        return found

    async def close(self) -> None:
        """Closes the connections to endpoints."""
        await self._poster.close()

    def _checked_url(self, text: str) -> str:
        """An address that can be posted to, as far as it tells by itself. Raises Invalid."""
        expected = "url: expected an address like https://example.com/hook"
        try:
            parts = urlsplit(text)
            good = bool(parts.hostname) and parts.port != 0 and not parts.fragment and parts.username is None
        except ValueError:
            good = False
        if not good or len(text) > MAX_URL_CHARACTERS or not text.isascii() or not text.isprintable() or " " in text:
            raise Invalid(expected, field="url")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._allow_http):
            raise Invalid(f"{expected}; only https, unless the operator has set webhooks.allow_private", field="url")
        if refusal := self._poster.refusal(text):
            raise Invalid(f"url: {refusal}", field="url")
        return text


def _checked_events(kinds: Sequence[str]) -> list[str]:
    """Event types in one order, each once. Raises Invalid for one that there is not."""
    for kind in kinds:
        if kind not in EVENT_TYPES:
            raise Invalid(f"events: expected some of {', '.join(sorted(EVENT_TYPES))}", field="events")
    return sorted(set(kinds))


async def _own(conn: Connection, owner: Principal, webhook_id: UUID) -> Webhook:
    found = await store.of_owner(conn, owner, webhook_id)
    if not found:
        raise NotFound("Webhook not found")
    return found[0]


async def _hold(conn: Connection, owner: Principal) -> None:
    """Neither the domain is removed nor the caller's key revoked before the transaction ends; additions take turns."""
    if not await accounts.lock_domain(conn, owner.domain_id) or await store.key_is_revoked(conn, owner.key_id):
        raise Unauthenticated(WRONG[owner.kind])
