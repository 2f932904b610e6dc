"""The HTTP entrance for tests: real listeners on loopback over a real database, with a scripted DNS."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec

from clawmail.api.routing import Route
from clawmail.api.server import ApiServer
from clawmail.api.services import Services
from clawmail.base.secrets import Keyring
from clawmail.base.settings import Settings
from clawmail.core.access import Access
from clawmail.core.aside import Aside
from clawmail.core.dkim_keys import DkimKeys
from clawmail.core.domains import Domains
from clawmail.core.health import Health
from clawmail.core.idempotency import OnceOnly
from clawmail.core.inboxes import Inboxes
from clawmail.core.limits import Limits
from clawmail.core.outbound.measure import QueueMeter
from clawmail.core.outbound.metrics import OutboundMetrics, process_registry
from clawmail.core.outbound.parts import utc_now
from clawmail.core.rules import Rules
from clawmail.store.db import Database
from tests.support.zones import ScriptedResolver

PUBLIC_IP = "203.0.113.10"
#: use-cases that account routes do not need.
MAIL_SIDE = ("mailbox", "downloads", "journal", "webhooks", "submitter")


def settings_with(**sections: Mapping[str, Any]) -> Settings:
    """Settings for a test: a port of its own, limits off, and what the test says, by section."""
    chosen: dict[str, dict[str, Any]] = {
        "server": {"public_ip": PUBLIC_IP},
        "api": {"listen": ["127.0.0.1:0"]},
        "limits": {"enabled": False},
    }
    for section, values in sections.items():
        chosen.setdefault(section, {}).update(values)
    return msgspec.convert(chosen, Settings)


@dataclass
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


@dataclass
class Api:
    """A running entrance and a client of it."""

    base: str
    client: aiohttp.ClientSession
    services: Services
    server: ApiServer
    zone: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        *,
        key: str | None = None,
        json: Any = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request; ``key`` is shown as a bearer."""
        sent = dict(headers or {})
        if key is not None:
            sent["Authorization"] = f"Bearer {key}"
        if json is not None:
            data = msgspec.json.encode(json)
            sent.setdefault("Content-Type", "application/json")
        async with self.client.request(
            method, self.base + path, data=data, headers=sent, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        """GET."""
        return await self.call("GET", path, **options)

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        """POST."""
        return await self.call("POST", path, json=json, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """DELETE."""
        return await self.call("DELETE", path, **options)

    def publish(self, domain: str, registered: Mapping[str, Any]) -> None:
        """Puts the three records of a registration into the DNS."""
        self.zone[registered["dns_txt_record"]] = {"TXT": [registered["dns_txt_value"]]}
        self.zone[domain] = {"MX": [f"10 {registered['mx_record']}"]}
        self.zone[registered["a_record"]["name"]] = {"A": [registered["a_record"]["value"]]}

    async def verified_domain(self, name: str) -> str:
        """A domain taken through registration and verification; its token."""
        registered = await self.post("/api/v1/domains/register", {"domain": name})
        assert registered.status == 201, registered.body
        self.publish(name, registered.json)
        token: str = registered.json["verification_token"]
        verified = await self.post("/api/v1/domains/verify", {"verification_token": token})
        assert verified.status == 200, verified.body
        return token

    async def inbox(self, token: str, email: str) -> str:
        """An inbox made with a domain's token; its credential ``<email>:<key>``."""
        made = await self.post("/api/v1/api-keys", {"email": email}, key=token)
        assert made.status == 201, made.body
        return f"{email}:{made.json['api_key']}"


def account_services(
    db: Database, zone: dict[str, dict[str, list[str]]], settings: Settings, **others: Any
) -> Services:
    """The use-cases of the account side; ``others`` are those of the mail side, where a test needs them."""
    resolver = ScriptedResolver(zone)
    access = Access(db)

    def changed(_domain: str) -> None:
        """No directory listens in these tests."""

    dkim_keys = DkimKeys(db, keyring=Keyring(bytes(32)), resolver=resolver, changed=changed)
    domains = Domains(db, access=access, dkim_keys=dkim_keys, changed=changed, resolver=resolver, settings=settings)
    mail_side: dict[str, Any] = dict.fromkeys(MAIL_SIDE) | others
    check_store = mail_side.pop("check_store", Health(db).check)
    return Services(
        settings=settings,
        access=access,
        limits=Limits(settings.limits),
        domains=domains,
        inboxes=Inboxes(db, access=access, changed=changed, settings=settings.inbox),
        rules=Rules(db, changed=changed),
        aside=Aside(),
        once_only=OnceOnly(db),
        check_store=check_store,
        measured=QueueMeter(db, OutboundMetrics(process_registry()), clock=utc_now).measured,
        **mail_side,
    )


@asynccontextmanager
async def running_api(
    db: Database,
    routes: Iterable[Route],
    *,
    settings: Settings | None = None,
    zone: dict[str, dict[str, list[str]]] | None = None,
    services: Services | None = None,
) -> AsyncIterator[Api]:
    """An entrance on a free port for the length of the block."""
    settings = settings or settings_with()
    zone = {} if zone is None else zone
    services = services or account_services(db, zone, settings)
    server = ApiServer(settings, services, routes)
    services.access.start()
    try:
        await server.start()
        host, port = server.addresses[0]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as client:
            yield Api(f"http://{host}:{port}", client, services, server, zone)
    finally:
        await server.stop(5)
        await services.access.stop()
        await services.limits.close()
        if services.webhooks is not None:
            await services.webhooks.close()
