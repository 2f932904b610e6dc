"""The mail side of the native API for tests: its routes over real use-cases, and an inbox with a key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from clawmail.api.native import downloads, journal, mail, webhooks
from clawmail.api.native.accounts import ROUTES as ACCOUNT_ROUTES
from clawmail.api.native.webhook_shapes import told
from clawmail.base.secrets import Keyring
from clawmail.base.settings import Settings
from clawmail.core.access import stored_key
from clawmail.core.aside import Aside
from clawmail.core.cursors import Cursors
from clawmail.core.directory import Directory
from clawmail.core.downloads import Downloads
from clawmail.core.journal import Journal
from clawmail.core.mailbox import Mailbox
from clawmail.core.our_names import OurNames
from clawmail.core.signing import Signers
from clawmail.core.sources import Sources
from clawmail.core.submit import Submitter
from clawmail.core.webhooks.endpoints import Webhooks
from clawmail.core.webhooks.parts import make_poster
from clawmail.core.writer import Writer
from clawmail.store import keys
from clawmail.store.db import Database
from tests.support.api import Answer, Api, account_services, running_api, settings_with
from tests.support.tenants import Tenant
from tests.support.zones import ScriptedResolver

MAIL_ROUTES = (*mail.ROUTES, *downloads.ROUTES, *journal.ROUTES, *webhooks.ROUTES)


@dataclass
class MailApi:
    """A running API and the key of one inbox."""

    api: Api
    tenant: Tenant
    #: <email>:<key> of the tenant's inbox.
    key: str
    #: of its domain.
    domain_token: str

    async def get(self, path: str, **options: Any) -> Answer:
        """GET under /api/v1 with the inbox's key."""
        return await self.api.get("/api/v1" + path, **{"key": self.key, **options})

    async def post(self, path: str, json: Any = None, **options: Any) -> Answer:
        """POST under /api/v1 with the inbox's key."""
        return await self.api.post("/api/v1" + path, json, **{"key": self.key, **options})

    async def patch(self, path: str, json: Any = None, **options: Any) -> Answer:
        """PATCH under /api/v1 with the inbox's key."""
        return await self.api.call("PATCH", "/api/v1" + path, json=json, **{"key": self.key, **options})

    async def delete(self, path: str, **options: Any) -> Answer:
        """DELETE under /api/v1 with the inbox's key."""
        return await self.api.delete("/api/v1" + path, **{"key": self.key, **options})

    async def in_hands_of(self, tenant: Tenant, db: Database) -> MailApi:
        """The same API for another tenant."""
        return MailApi(self.api, tenant, *await keys_of(tenant, self.api, db))


async def keys_of(tenant: Tenant, api: Api, db: Database) -> tuple[str, str]:
    """A key of the tenant's inbox as a credential, and a token of its domain."""
    owner = replace(tenant.principal, kind="domain", inbox_id=None, address=None)
    now = datetime.now(UTC)
    made = await api.services.inboxes.new_inbox_key(owner, tenant.inbox.address, "test", now)
    key, token = await stored_key("domain", owner, now)
    async with db.transaction() as conn:
        await keys.add(conn, key)
    return f"{tenant.inbox.address}:{made.text}", token


def mail_services(db: Database, settings: Settings) -> dict[str, Any]:
    """The use-cases of the mail side."""
    keyring = Keyring(bytes(32))
    directory = Directory(
        db, catch_all_local_part=settings.inbox.catch_all_local_part, quota_bytes=settings.inbox.storage_quota_bytes
    )
    names = OurNames(directory, hostname=settings.hostname, mx_label=settings.server.mx_label)
    sources = Sources(db, names)
    cursors = Cursors(keyring.signing_key("cursor"))
    return {
        "mailbox": Mailbox(db, sources, cursors),
        "downloads": Downloads(db, sources, attachment_ttl_hours=settings.retention.attachment_ttl_hours),
        "journal": Journal(db, cursors),
        "webhooks": Webhooks(
            db,
            keyring=keyring,
            poster=make_poster(settings.webhooks, ScriptedResolver({}), keyring, told),
            cursors=cursors,
            allow_http=settings.webhooks.allow_private,
        ),
        "submitter": Submitter(
            db,
            directory,
            Writer(db),
            Signers(directory, keyring),
            Aside(),
            max_message_bytes=settings.smtp.max_message_bytes,
            max_recipients=settings.smtp.max_recipients,
        ),
    }


@asynccontextmanager
async def running_mail_api(db: Database, tenant: Tenant, **sections: Any) -> AsyncIterator[MailApi]:
    """The whole native API on a free port; ``sections`` are settings."""
    settings = settings_with(**sections)
    services = account_services(db, {}, settings, **mail_services(db, settings))
    async with running_api(db, (*ACCOUNT_ROUTES, *MAIL_ROUTES), settings=settings, services=services) as api:
        yield MailApi(api, tenant, *await keys_of(tenant, api, db))
