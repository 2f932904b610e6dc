"""Databases as released versions left them, kept as data: each is a backup, small and unsealed.

``python -m tests.support.schemas NAME`` makes one of the schema as it is now; it is done once a release, and what was
made is never made again.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from clawmail.base.ids import new_id
from clawmail.core import backup
from clawmail.core.backup_files import BackupDirectory
from clawmail.store import suppressions
from clawmail.store.db import Database
from tests.support import mail
from tests.support.postgres import TestServer, start_test_server
from tests.support.tenants import add_inbox, add_tenant

SCHEMAS = Path(__file__).parents[1] / "fixtures" / "schemas"


async def empty_database(postgres: TestServer) -> str:
    """A database without even a schema; ``postgres.drop`` removes it."""
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(postgres.server.url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return postgres.url_of(name)


async def furnish(db: Database) -> None:
    """Two tenants with mail in, mail out in several states, keys, rules, events and a suppression."""
    for name in ("one.example", "two.example"):
        tenant = await add_tenant(db, name)
        owner: dict[str, Any] = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id}
        second = await add_inbox(db, tenant.domain, "second")
        for number in range(4):
            await mail.file(db, tenant, also_in=(second.id,) if number % 2 else ())
        sent = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"))
        async with db.transaction() as conn:
            await suppressions.record_hard(conn, **owner, address="c@far.test", detail="", now=datetime.now(UTC))
            await conn.execute(
                "UPDATE deliveries SET state = 'delivered', settled_at = now(), last_attempt_at = now(), attempts = 1"
                " WHERE email_id = $1 AND recipient = 'a@far.test'",
                sent,
            )
            await conn.execute(
                "INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, type, recipient, detail, at)"
                " VALUES ($1, $2, $3, $4, $5, 'delivered', 'a@far.test', '{}', now())",
                new_id(),
                tenant.organisation_id,
                tenant.domain.id,
                tenant.inbox.id,
                sent,
            )
            await conn.execute(
                "INSERT INTO access_keys (id, organisation_id, domain_id, inbox_id, kind, prefix, secret_hash)"
                " VALUES ($1, $2, $3, $4, 'inbox', 'cm_00000000', 'x')",
                new_id(),
                tenant.organisation_id,
                tenant.domain.id,
                tenant.inbox.id,
            )


async def _make(name: str) -> None:
    directory = Path(tempfile.mkdtemp(prefix="clawmail-schema-"))
    directory.chmod(0o755)
    server = await start_test_server(directory)
    try:
        db = Database(await server.create())
        await db.open()
        await furnish(db)
        await db.close()
        await backup.take(db.url, BackupDirectory(SCHEMAS / name, None), datetime.now(UTC))
    finally:
        await server.server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    asyncio.run(_make(sys.argv[1]))
