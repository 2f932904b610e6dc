"""Webhooks as things that are kept: limited, backed up, removed with their owners, and handled by operators."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from clawmail.core import backup
from clawmail.core.backup_files import BackupDirectory
from clawmail.core.webhooks.endpoints import MAX_OF_DOMAIN, MAX_OF_INBOX
from clawmail.model.events import EventType
from clawmail.store.db import Database
from tests.flow.test_cli_sender import as_json, clawmail
from tests.support.mail_api import running_mail_api
from tests.support.postgres import TestServer
from tests.support.schemas import empty_database
from tests.support.tenants import Tenant, add_inbox
from tests.support.webhooks import add_webhook, happen, rows

HOOK = {"url": "https://sink.test/hook"}


async def test_the_documented_limits_are_crossed(db: Database, tenant: Tenant) -> None:
    second = await add_inbox(db, tenant.domain, "second")
    async with running_mail_api(db, tenant) as api:
        for most, path in (
            (MAX_OF_INBOX, {"key": api.key}),
            (MAX_OF_DOMAIN, {"key": api.domain_token}),
        ):
            answers = [await api.post("/webhooks", HOOK, **path) for _ in range(most + 1)]
            assert [answer.status for answer in answers] == [201] * most + [409]
            assert answers[-1].json["code"] == "too_many_webhooks"
        # Each inbox has its own five, whoever makes them; one that is removed makes room.
        named = HOOK | {"inbox": second.address}
        assert (await api.post("/webhooks", named, key=api.domain_token)).status == 201
        listed = (await api.get("/webhooks")).json["webhooks"]
        assert len(listed) == MAX_OF_INBOX
        assert len((await api.get("/webhooks", key=api.domain_token)).json["webhooks"]) == MAX_OF_INBOX + 21
        assert (await api.delete(f"/webhooks/{listed[0]['id']}")).status == 204
        assert (await api.post("/webhooks", HOOK)).status == 201


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://sink.test/"},
        {"url": "sink.test/hook"},
        {"url": "https://"},
        {"url": "https://user:word@sink.test/"},
        {"url": "https://sink.test/#part"},
        {"url": "https://sink.test:99999/"},
        {"url": "https://sink.test/a b"},
        {"url": "https://sink.test/\r\nX-A: b"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://[::ffff:10.0.0.1]/"},
        {"url": "https://sink.test/" + "x" * 2048},
        {"url": "https://sink.test/", "events": ["opened"]},
        {"url": "https://sink.test/", "events": ["test"]},
        {"url": "https://sink.test/", "events": "received"},
        {},
    ],
)
async def test_what_cannot_be_told_is_refused(db: Database, tenant: Tenant, wrong: dict[str, Any]) -> None:
    async with running_mail_api(db, tenant) as api:
        answer = await api.post("/webhooks", wrong)
        assert answer.status == 400, answer.body
        made = await api.post("/webhooks", HOOK)
        if wrong:
            assert (await api.patch(f"/webhooks/{made.json['id']}", wrong)).status == 400
        assert (await api.get(f"/webhooks/{made.json['id']}")).json["url"] == HOOK["url"]


async def test_it_is_changed_walked_and_asked_for(db: Database, tenant: Tenant) -> None:
    async with running_mail_api(db, tenant) as api:
        hook = (await api.post("/webhooks", HOOK | {"events": ["received", "received"]})).json
        assert (hook["events"], hook["inbox"]) == (["received"], tenant.inbox.address)
        path = f"/webhooks/{hook['id']}"
        changed = (await api.patch(path, {"events": [], "is_active": False})).json
        assert (changed["events"], changed["is_active"], changed["disabled_reason"]) == ([], False, "by its owner")
        await happen(db, tenant)
        assert (await api.get(f"{path}/deliveries")).json == {"deliveries": [], "next_cursor": None}
        assert (await api.patch(path, {"is_active": True})).json["is_active"] is True
        ids = [str(made) for made in await happen(db, tenant, 5, EventType.BOUNCED)]
        seen, cursor = [], ""
        while cursor is not None:
            page = (await api.get(f"{path}/deliveries?limit=2{cursor and f'&cursor={cursor}'}")).json
            seen += [one["id"] for one in page["deliveries"]]
            cursor = page["next_cursor"]
        assert seen == ids[::-1]
        assert (await api.get(f"{path}/deliveries?cursor=made-up")).status == 400
        for missing in (f"{path}/deliveries/{hook['id']}/retry", f"{path}/deliveries/x/retry"):
            assert (await api.post(missing)).status == 404
        assert (await api.post("/webhooks", HOOK | {"inbox": "no@example.test"}, key=api.domain_token)).status == 404


async def test_they_go_with_their_inbox_and_their_domain(db: Database, tenant: Tenant) -> None:
    async with running_mail_api(db, tenant) as api:
        for key in (api.key, api.domain_token):
            assert (await api.post("/webhooks", HOOK, key=key)).status == 201
        await happen(db, tenant)
        assert len(await rows(db)) == 2
        owner = await api.api.services.domains.owner(tenant.domain.name)
        await api.api.services.inboxes.remove(owner, tenant.inbox.address, datetime.now(UTC))
        await happen(db, tenant)
        assert len(await rows(db)) == 3  # the domain's alone heard of the second
        assert (await api.api.delete(f"/api/v1/domains/{tenant.domain.name}", key=api.domain_token)).status == 204
        await happen(db, tenant)
        assert len(await rows(db)) == 3


async def test_a_restore_tells_nothing_anew(postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path) -> None:
    await add_webhook(db, tenant)
    await happen(db, tenant, 3)
    files = BackupDirectory(tmp_path / "backup", None)
    await backup.take(db.url, files, datetime.now(UTC))
    for held in (False, True):
        url = await empty_database(postgres)
        restored = await backup.restore(url, files, hold_queue=held)
        assert (restored.rows["webhooks"], restored.rows["webhook_deliveries"]) == (1, 3)
        conn = await asyncpg.connect(url)
        assert await conn.fetchval("SELECT count(*) FROM webhook_deliveries") == 3
        assert await conn.fetchval("SELECT disabled_at IS NOT NULL FROM webhooks") is held
        await conn.close()
        await postgres.drop(url)


async def test_operators_handle_them(tmp_path: Path, database_url: str, tenant: Tenant) -> None:
    made = await as_json(
        tmp_path, database_url, "webhook", "add", tenant.inbox.address, HOOK["url"], "--event", "received"
    )
    assert made["secret"].startswith("whsec_") and made["recipient"] == tenant.inbox.address
    (listed,) = await as_json(tmp_path, database_url, "webhook", "list")
    assert listed == {name: value for name, value in made.items() if name != "secret"}
    tested = await clawmail(tmp_path, database_url, "webhook", "test", "example.test", made["id"], "--json")
    assert tested.exit_code == 1 and json.loads(tested.stdout)["ok"] is False
    assert (await as_json(tmp_path, database_url, "webhook", "remove", "example.test", made["id"]))["removed"] is True
    assert await as_json(tmp_path, database_url, "webhook", "list", "example.test") == []
    for arguments, words in (
        (("add", "example.test", "http://sink.test"), "only https, unless"),
        (("add", "nobody@example.test", "https://sink.test"), "Inbox not found"),
        (("remove", "example.test", made["id"]), "clawmail webhook list example.test shows"),
    ):
        result = await clawmail(tmp_path, database_url, "webhook", *arguments)
        assert (result.exit_code, words in result.output) == (1, True), result.output
