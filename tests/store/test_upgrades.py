"""Upgrades: the database of every released schema is brought to this one, and everything in it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawmail.core import backup
from clawmail.core.backup_files import BackupDirectory
from clawmail.core.verify import Verifier
from clawmail.store import mailbox
from clawmail.store.db import Database
from clawmail.store.queries import sql_folder
from tests.support.postgres import TestServer
from tests.support.schemas import SCHEMAS, empty_database


@pytest.mark.parametrize("release", sorted(SCHEMAS.iterdir()), ids=lambda path: path.name)
async def test_a_released_schema_is_migrated_and_nothing_is_wrong(postgres: TestServer, release: Path) -> None:
    url = await empty_database(postgres)
    restored = await backup.restore(url, BackupDirectory(release, None))
    assert min(restored.rows[table] for table in ("domains", "emails", "messages", "deliveries", "events")) > 0
    db = Database(url)
    await db.open()
    async with db.connection() as conn:
        names = [row["name"] for row in await conn.fetch("SELECT name FROM schema_migrations ORDER BY name")]
        assert names == [name for name, _ in sql_folder("migrations")]
        for inbox in await conn.fetch("SELECT id FROM inboxes"):
            page = await mailbox.list_page(conn, inbox["id"], archived=False, read=None, limit=20, offset=0)
            assert page.total == len(page.emails) > 0
    assert [problem async for problem in Verifier(db).run()] == []
    await db.close()
    await postgres.drop(url)
