"""Backup and restore: what is restored is what was there, day files are written once, and nobody reads a sealed one."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from clawmail.core import backup
from clawmail.core.backup_files import BackupDirectory, BackupError
from clawmail.core.verify import Verifier
from clawmail.store.db import Database
from clawmail.store.pieces import LARGE_BYTES
from tests.support import mail
from tests.support.postgres import TestServer
from tests.support.schemas import empty_database
from tests.support.tenants import Tenant, add_inbox

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = bytes(range(32))


async def everything(url: str) -> dict[str, list[Any]]:
    """Every row of every table."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            " AND relname <> 'schema_migrations'"
        )
        return {
            name: [tuple(row) for row in await connection.fetch(f'SELECT t::text FROM "{name}" t ORDER BY 1')]
            for (name,) in names
        }
    finally:
        await connection.close()


async def fill(db: Database, tenant: Tenant) -> None:
    """Mail in two inboxes, one message shared, and one on its way out."""
    second = await add_inbox(db, tenant.domain, "second")
    await mail.file(db, tenant, mail.plain("large", "line\r\n" * (LARGE_BYTES // 6)))
    for number in range(4):
        await mail.file(db, tenant, also_in=(second.id,) if number % 2 else ())
    await mail.file(db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"))


@pytest.mark.parametrize("key", [None, KEY])
async def test_what_is_restored_is_what_was_there(
    postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path, key: bytes | None
) -> None:
    await fill(db, tenant)
    taken = await backup.take(db.url, BackupDirectory(tmp_path / "b", key), NOW, secret=b"5a" * 32)
    assert taken.rows["messages"] == 6
    assert taken.rows["deliveries"] == 2
    url = await empty_database(postgres)
    restored = await backup.restore(url, BackupDirectory(tmp_path / "b", key))
    assert restored.rows == taken.rows
    assert await everything(url) == await everything(db.url)
    assert await BackupDirectory(tmp_path / "b", key).secret() == (b"5a" * 32 if key else None)
    other = Database(url)
    await other.open()
    assert [problem async for problem in Verifier(other).run()] == []
    await other.close()
    with pytest.raises(BackupError, match="not empty"):
        await backup.restore(url, BackupDirectory(tmp_path / "b", key))
    await postgres.drop(url)


async def test_a_day_is_written_again_only_when_its_messages_are_others(
    db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    await fill(db, tenant)
    files = BackupDirectory(tmp_path / "b", None)
    await backup.take(db.url, files, NOW)
    first = {path.name for path in (tmp_path / "b" / "messages").iterdir()}
    again = await backup.take(db.url, files, NOW.replace(second=6))
    assert again.kept == len(first)
    assert {path.name for path in (tmp_path / "b" / "messages").iterdir()} == first
    await mail.file(db, tenant)
    third = await backup.take(db.url, files, NOW.replace(second=7))
    assert third.rows["messages"] == 7
    assert third.kept == len(first) - 1 == 1
    assert len(list((tmp_path / "b" / "messages").iterdir())) == len(first)
    assert not list((tmp_path / "b").rglob("*.part"))
    async with db.transaction() as conn:
        await conn.execute("INSERT INTO schema_migrations (name, sha256) VALUES ('9999_rewritten', 'x')")
    assert (await backup.take(db.url, files, NOW.replace(second=8))).kept == 0


async def test_a_sealed_backup_tells_nothing_and_is_not_to_be_changed(
    postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    await fill(db, tenant)
    files = BackupDirectory(tmp_path / "b", KEY)
    await backup.take(db.url, files, NOW)
    for path in (tmp_path / "b").rglob("*-*"):
        assert b"example.test" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(BackupError, match="another key"):
        BackupDirectory(tmp_path / "b", bytes(32)).manifest()
    with pytest.raises(BackupError, match="is sealed"):
        BackupDirectory(tmp_path / "b", None).manifest()
    url = await empty_database(postgres)
    (damaged,) = (tmp_path / "b" / "tables").glob("emails-*")
    octets = bytearray(damaged.read_bytes())
    octets[-1] ^= 1
    damaged.write_bytes(octets)
    with pytest.raises(BackupError, match=r"emails.*changed"):
        await backup.restore(url, files)
    await postgres.drop(url)


async def test_a_queue_that_is_held_sends_nothing(
    postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    await fill(db, tenant)
    files = BackupDirectory(tmp_path / "b", None)
    await backup.take(db.url, files, NOW)
    url = await empty_database(postgres)
    await backup.restore(url, files, hold_queue=True)
    connection = await asyncpg.connect(url)
    assert {row["state"] for row in await connection.fetch("SELECT state FROM deliveries")} == {"held"}
    await connection.close()
    await postgres.drop(url)


async def test_a_backup_is_one_moment_whatever_is_written_meanwhile(
    postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path
) -> None:
    await fill(db, tenant)
    stop = asyncio.Event()

    async def write() -> None:
        while not stop.is_set():
            await mail.file(db, tenant)

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        taken = await backup.take(db.url, BackupDirectory(tmp_path / "b", None), NOW)
        stop.set()
    url = await empty_database(postgres)
    assert (await backup.restore(url, BackupDirectory(tmp_path / "b", None))).rows == taken.rows
    other = Database(url)
    await other.open()
    assert [problem async for problem in Verifier(other).run()] == []
    await other.close()
    await postgres.drop(url)


async def test_a_full_disk_is_told_and_spoils_nothing(
    db: Database, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(db, tenant)
    files = BackupDirectory(tmp_path / "b", None)
    first = await backup.take(db.url, files, NOW)
    await mail.file(db, tenant)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackupError, match=r"cannot be written: No space left on device"):
        await backup.take(db.url, files, NOW.replace(second=6))
    monkeypatch.undo()
    kept = files.manifest()
    assert kept is not None
    assert sum(file.rows for file in kept.files if file.table == "messages") == first.rows["messages"]
    for file in kept.files:
        await files.check(file)


async def test_nothing_has_to_be_kept_beside_the_rows(db: Database) -> None:
    async with db.connection() as conn:
        # A sequence would have to go into the backup as well.
        assert await conn.fetchval("SELECT count(*) FROM pg_class WHERE relkind IN ('S', 'p', 'm', 'f')") == 0


async def clawmail(*arguments: str) -> tuple[int, str, str]:
    """Runs the command; (status, standard output, standard error)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clawmail", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_the_commands(postgres: TestServer, db: Database, tenant: Tenant, tmp_path: Path) -> None:
    await fill(db, tenant)
    url = await empty_database(postgres)
    key = tmp_path / "key"
    key.write_text(KEY.hex() + "\n")
    for name, where in (("old", db.url), ("new", url)):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.toml").write_text(
            f'[server]\ndata_dir = "{tmp_path / name}"\n[database]\nurl = "{where}"\n'
        )
    (tmp_path / "old" / "secret.key").write_text("5a" * 32 + "\n")
    directory, sealing = str(tmp_path / "b"), ("--key-file", str(key))
    status, out, error = await clawmail("backup", directory, *sealing, "--config", str(tmp_path / "old.toml"))
    assert (status, error) == (0, "")
    assert out.startswith("ok: 6 messages, 8 emails written: ")
    status, out, error = await clawmail("restore", directory, "--config", str(tmp_path / "new.toml"))
    assert status == 1
    assert "is sealed: name its key with --key-file" in error
    status, out, _ = await clawmail("restore", directory, *sealing, "--config", str(tmp_path / "new.toml"))
    assert status == 0
    assert "the secret key is in" in out
    assert (tmp_path / "new" / "secret.key").read_text() == "5a" * 32 + "\n"
    status, out, _ = await clawmail("verify", "--json", "--config", str(tmp_path / "new.toml"))
    assert (status, json.loads(out)["checked"]["messages"]) == (0, 6)
    await postgres.drop(url)
