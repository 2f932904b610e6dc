"""Backup and restore: the whole house as files, taken while it works, and put back into an empty database.

A backup is what the database held at one moment. Messages never change, so the files of days whose messages are still
the same are left as they are; what owners deleted leaves the backup with the next one. Restoring brings an empty
database to the schema of the backup, fills it in one transaction, and then migrates it to this release.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import clawmail
from clawmail.base.log import logger
from clawmail.core.backup_files import FORMAT, BackupDirectory, BackupError, Manifest, StoredFile
from clawmail.store import backup as store
from clawmail.store.db import Connection
from clawmail.store.migrate import MigrationError, migrate

log = logger("backup")

Write = Callable[[bytes], Awaitable[None]]
#: told of each file: (name, files done, files in all; 0: not known yet).
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a backup or a restore came to."""

    rows: dict[str, int]
    #: octets of the files that were written or read.
    bytes: int
    files: int
    #: files of earlier backups that were still right.
    kept: int = 0


async def take(
    url: str, directory: BackupDirectory, now: datetime, *, secret: bytes | None = None, told: Told = lambda *_: None
) -> Summary:
    """Writes what the database at ``url`` holds now. ``secret``: the server's secret key, kept in a sealed backup only.

    Raises BackupError, StoreUnwell, OSError.
    """
    earlier = directory.manifest()
    directory.path.mkdir(parents=True, exist_ok=True, mode=0o700)
    files: list[StoredFile] = []
    kept = 0
    async with store.snapshot(url) as conn:
        migrations = tuple(await store.migrations(conn))
        # A migration since then may have changed what is kept of a message beside its bytes.
        last = earlier if earlier is not None and earlier.migrations == migrations else None
        shapes = await store.tables(conn)
        days = {s.name: [day async for day in store.days(conn, s)] for s in shapes if s.name in store.BY_DAY}
        expected = len(shapes) - len(days) + sum(map(len, days.values()))
        moment = now.strftime("%Y%m%dT%H%M%S.%f")
        for shape in shapes:
            if shape.name in days:
                for day in days[shape.name]:
                    old = _unchanged(last, directory, day, shape)
                    kept += old is not None
                    files.append(old or await _write_day(conn, directory, day, shape))
                    told(str(day.day), len(files), expected)
            else:
                fill = partial(store.copy_table, conn, shape)
                name = f"tables/{shape.name}-{moment}"
                files.append(await _write(directory, name, shape, fill))
                told(shape.name, len(files), expected)
    (directory.path / "messages").mkdir(exist_ok=True, mode=0o700)
    if secret is not None and directory.sealed:
        await directory.keep_secret(secret)
    taken_at = now.isoformat()
    directory.write_manifest(
        Manifest(FORMAT, taken_at, clawmail.__version__, migrations, directory.sealed, tuple(files))
    )
    return _summary(files, kept)


async def restore(
    url: str, directory: BackupDirectory, *, hold_queue: bool = False, told: Told = lambda *_: None
) -> Summary:
    """Fills the empty database at ``url``. ``hold_queue``: nothing goes out until the operator releases it.

    Raises BackupError, MigrationError, StoreUnwell, OSError; then the database is still empty.
    """
    manifest = directory.manifest()
    if manifest is None:
        raise BackupError(f"{directory.path} holds no complete backup")
    for number, file in enumerate(manifest.files):
        told(f"checking {file.table}", number, len(manifest.files))
        await directory.check(file)
    await migrate(url, only=manifest.migrations)
    async with store.loading(url) as conn:
        await _refuse_unfit(conn, manifest)
        for number, file in enumerate(manifest.files):
            told(f"loading {file.table}", number, len(manifest.files))
            shape = store.TableShape(file.table, file.columns)
            rows = await store.load_table(conn, shape, directory.read(file.name))
            if rows != file.rows:
                raise BackupError(f"{file.name} held {rows} rows, not {file.rows}")
        await store.finish_loading(conn, hold_queue=hold_queue)
    await migrate(url)
    return _summary(manifest.files, 0)


async def _refuse_unfit(conn: Connection, manifest: Manifest) -> None:
    if await store.holds_something(conn):
        raise BackupError("the database is not empty: restore into a fresh one, or drop what is there first")
    if set(await store.migrations(conn)) - set(manifest.migrations):
        raise MigrationError("the database has the schema of a newer release already: restore into one that is empty")


def _unchanged(
    last: Manifest | None, directory: BackupDirectory, day: store.Day, shape: store.TableShape
) -> StoredFile | None:
    """The file of that day in the last backup, if it holds just these messages with just these columns."""
    for file in last.files if last is not None else ():
        if (file.day, file.digest, file.columns) == (day.day.isoformat(), day.digest, shape.columns):
            return file if directory.has(file) else None
    return None


async def _write_day(
    conn: Connection, directory: BackupDirectory, day: store.Day, shape: store.TableShape
) -> StoredFile:
    name = f"messages/{day.day.isoformat()}-{day.digest[:16]}{store.BY_DAY[shape.name].suffix}"
    return await _write(directory, name, shape, partial(store.copy_day, conn, shape, day.day), day)


async def _write(
    directory: BackupDirectory,
    name: str,
    shape: store.TableShape,
    fill: Callable[[Write], Awaitable[int]],
    day: store.Day | None = None,
) -> StoredFile:
    rows, size, sha256 = await directory.write(name, fill)
    of_day = {"day": day.day.isoformat(), "digest": day.digest} if day is not None else {}
    return StoredFile(name, shape.name, shape.columns, rows, size, sha256, **of_day)


def _summary(files: list[StoredFile] | tuple[StoredFile, ...], kept: int) -> Summary:
    rows: dict[str, int] = {}
    for file in files:
        rows[file.table] = rows.get(file.table, 0) + file.rows
    return Summary(rows, sum(file.bytes for file in files), len(files), kept)
