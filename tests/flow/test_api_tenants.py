"""Two tenants on one server: every route that there is, walked with the keys of the other one.

The walk is driven by the route table, so a new route is covered when it is added; a path parameter nobody filled fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from clawmail.api.native.routes import ROUTES
from clawmail.api.routing import Route
from clawmail.base.errors import Unauthenticated
from clawmail.base.ids import new_id
from clawmail.model.events import Event, EventType
from clawmail.model.tenancy import Principal
from clawmail.store import events, suppressions
from clawmail.store.db import Database
from tests.support import mail
from tests.support.api import Answer, Api, account_services, running_api, settings_with
from tests.support.mail_api import keys_of, mail_services
from tests.support.tenants import Tenant, add_tenant

#: one body with a good value for every field of every route; what a route does not know it ignores.
BODY = {
    "to": "someone@elsewhere.test",
    "subject": "hello",
    "text": "hello",
    "is_read": True,
    "match_field": "subject",
    "regex_pattern": "x",
    "destination_email": "someone@elsewhere.test",
    "domain": "third.test",
    "verification_token": "cmd_nothing",
    "url": "https://elsewhere.test/hook",
}
#: what may be seen of a route with a key that is good but whose owner does not own what it names.
NOT_YOURS = {400, 401, 403, 404}


@dataclass
class Owner:
    """A tenant with one of everything, and its keys."""

    tenant: Tenant
    inbox_key: str
    domain_token: str
    creation_key: str
    #: (path, parameter) → value, as far as they differ from path to path.
    ids: dict[str, str] = field(default_factory=dict)

    def value(self, path: str, parameter: str) -> str:
        """What belongs into a path parameter for this tenant's own thing."""
        noun = path.removeprefix("/api/v1/").partition("/")[0]
        return self.ids[f"{noun}.{parameter}"]

    def path(self, route: Route) -> str:
        """The route's path with this tenant's things in it."""
        path = route.path
        for name in route.parameters:
            path = path.replace(f"{{{name}}}", self.value(route.path, name))
        return path

    def marks(self) -> list[bytes]:
        """Words that only this tenant may see."""
        secrets = [self.tenant.domain.name, self.tenant.inbox.address, *self.ids.values()]
        return [secret.encode() for secret in secrets if len(secret) > 3]

    def right_keys(self, route: Route) -> list[str]:
        """The keys that open the route."""
        by_auth = {
            "domain": [self.domain_token],
            "pending domain": [self.domain_token],
            "creation": [self.domain_token, self.creation_key],
            "inbox": [self.inbox_key],
            "inbox or domain": [self.inbox_key, self.domain_token],
        }
        return by_auth[route.auth]


async def _owner(api: Api, db: Database, name: str) -> Owner:
    tenant = await add_tenant(db, name)
    inbox_key, domain_token = await keys_of(tenant, api, db)
    creation = (await api.post("/api/v1/inbox-creation-keys", key=domain_token)).json
    owner = Owner(tenant, inbox_key, domain_token, creation["inbox_creation_key"])
    email_id = await mail.file(db, tenant, mail.plain(f"Hello {name}", "Hi there"))
    rule = await api.post("/api/v1/forwarding-rules", BODY, key=domain_token)
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        await suppressions.record_hard(
            conn,
            organisation_id=tenant.organisation_id,
            domain_id=tenant.domain.id,
            address=f"dead@{name}.elsewhere.test",
            detail="550 no",
            now=now,
        )
    webhook = (await api.post("/api/v1/webhooks", BODY, key=inbox_key)).json["id"]
    async with db.transaction() as conn:
        told = Event(
            new_id(), tenant.organisation_id, tenant.domain.id, EventType.RECEIVED, now, tenant.inbox.id, email_id
        )
        await events.append(conn, [told])
    keys = (await api.get("/api/v1/api-keys", key=domain_token)).json["api_keys"]
    email = (await api.get(f"/api/v1/emails/{email_id}?peek=true", key=inbox_key)).json
    owner.ids = {
        "domains.domain": name,
        "inbox-creation-keys.key": creation["id"],
        "api-keys.key": keys[0]["id"],
        "forwarding-rules.id": rule.json["id"],
        "emails.id": str(email_id),
        "emails.n": "1",
        "threads.id": email["thread_id"],
        "suppressions.address": f"dead@{name}.elsewhere.test",
        "webhooks.id": webhook,
        "webhooks.event": str(told.id),
    }
    return owner


@dataclass
class Two:
    """A running API with two tenants."""

    api: Api
    mine: Owner
    theirs: Owner

    async def call(self, route: Route, path: str, key: str | None) -> Answer:
        """One call of a route."""
        body = BODY | {"email": f"new@{self.theirs.tenant.domain.name}"}
        return await self.api.call(route.method, path, key=key, json=body if route.body else None)


@pytest.fixture
async def two(db: Database) -> AsyncIterator[Two]:
    settings = settings_with()
    services = account_services(db, {}, settings, **mail_services(db, settings))
    async with running_api(db, ROUTES, settings=settings, services=services) as api:
        yield Two(api, await _owner(api, db, "mine.test"), await _owner(api, db, "theirs.test"))


KEYED = [route for route in ROUTES if route.auth not in ("none", "register")]


async def _ground(two: Two, db: Database) -> list[tuple[object, ...]]:
    """All rows of the other tenant that a call could change."""
    async with db.connection() as conn:
        rows = []
        for table in (
            "emails",
            "threads",
            "forwarding_rules",
            "suppressions",
            "inboxes",
            "dkim_keys",
            "deliveries",
            "webhooks",
            "webhook_deliveries",
        ):
            query = f"SELECT t::text FROM {table} t WHERE domain_id = $1 ORDER BY 1"
            rows += [tuple(row) for row in await conn.fetch(query, two.theirs.tenant.domain.id)]
        rows += [
            tuple(row)
            for row in await conn.fetch(
                "SELECT id, revoked_at, used_at FROM access_keys WHERE domain_id = $1 ORDER BY id",
                two.theirs.tenant.domain.id,
            )
        ]
    return rows


async def test_no_route_shows_or_changes_what_is_another_tenants(two: Two, db: Database) -> None:
    before = await _ground(two, db)
    for route in KEYED:
        for key in two.mine.right_keys(route):
            path = two.theirs.path(route)
            answer = await two.call(route, path, key)
            if route.parameters:
                assert answer.status in NOT_YOURS, (route.name, answer.status, answer.body)
            else:
                assert answer.status < 500, (route.name, answer.body)
            for mark in two.theirs.marks():
                assert mark not in answer.body, (route.name, mark)
    assert await _ground(two, db) == before


async def test_no_route_opens_without_a_key_or_with_one_of_another_kind(two: Two, db: Database) -> None:
    before = await _ground(two, db)
    own = two.theirs
    every_key = {own.inbox_key, own.domain_token, own.creation_key, own.inbox_key.rpartition(":")[2], "cm_", "x:y"}
    mixed = f"{two.theirs.tenant.inbox.address}:{two.mine.inbox_key.rpartition(':')[2]}"
    for route in KEYED:
        path = own.path(route)
        for key in [None, mixed, *sorted(every_key - set(own.right_keys(route)))]:
            answer = await two.call(route, path, key)
            assert answer.status == 401, (route.name, key and key[:8], answer.body)
    assert await _ground(two, db) == before


def _destruction(route: Route) -> int:
    """How much a call takes from the calls after it: reading nothing, a removed domain everything."""
    if route.method != "DELETE":
        return 0
    return 3 if "/domains/" in route.path else 2 if "keys" in route.path else 1


async def test_every_route_opens_to_its_owner(two: Two) -> None:
    """What the walks above found closed is there: its owner gets in. What destroys comes last."""
    for route in sorted(KEYED, key=_destruction):
        answer = await two.call(route, two.theirs.path(route), two.theirs.right_keys(route)[0])
        no_attachment = "attachments" in route.path and answer.status == 404
        assert answer.status < 300 or no_attachment, (route.name, answer.body)


async def test_principals_are_not_interchangeable(two: Two) -> None:
    access = two.api.services.access
    mine: Principal = await access.domain(two.mine.domain_token)
    assert mine.domain_name == "mine.test"
    for credential in (two.mine.inbox_key, two.mine.creation_key):
        with pytest.raises(Unauthenticated):
            await access.domain(credential)
