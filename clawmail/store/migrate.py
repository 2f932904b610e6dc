"""Schema migrations: the files of ``sql/migrations``, in order, once, under an advisory lock.

Forward only. Each file runs in one transaction together with the row that says it ran, so an interrupted start resumes
where it stopped and two processes that start at once migrate once. A schema newer than this program knows is left
alone: the rule is expand first, contract a release later, so an older process beside it keeps working.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import asyncpg

from clawmail.base.log import logger
from clawmail.store.queries import sql_folder

#: key of the advisory lock ("clawmail" as a number); any program that migrates this schema takes the same one.
LOCK_KEY = 0x636C61776D61696C & 0x7FFF_FFFF_FFFF_FFFF
OLDEST_POSTGRESQL = 150000

log = logger("store")


class MigrationError(Exception):
    """The database cannot be brought to this program's schema; the text says why and what to do."""


async def migrate(url: str, *, only: Collection[str] | None = None) -> list[str]:
    """Applies what is missing and returns the names applied. Raises MigrationError, or OSError when nobody answers.

    ``only``: the migrations a backup was made with; then no other is applied, and each of them has to be known.
    """
    try:
        connection = await asyncpg.connect(url, timeout=30, command_timeout=3600)
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise MigrationError(f"PostgreSQL does not open the database at database.url: {error}") from None
    try:
        if int(await connection.fetchval("SHOW server_version_num")) < OLDEST_POSTGRESQL:
            raise MigrationError("PostgreSQL 15 or newer is needed")
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        return await _apply_missing(connection, only)
    finally:
        await connection.close(timeout=5)


async def _apply_missing(connection: asyncpg.Connection, only: Collection[str] | None) -> list[str]:
    known = dict(sql_folder("migrations"))
    if only is not None and (unknown := sorted(set(only) - known.keys())):
        raise MigrationError(f"made by a newer release: this one does not know the migrations {', '.join(unknown)}")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations"
        " (name text PRIMARY KEY, sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    done = {row["name"]: row["sha256"] for row in await connection.fetch("SELECT name, sha256 FROM schema_migrations")}
    applied = []
    for name, text in known.items():
        if only is not None and name not in only:
            continue
        digest = hashlib.sha256(text.encode()).hexdigest()
        if name in done:
            if done[name] != digest:
                raise MigrationError(
                    f"migration {name} was applied in another wording; a released migration never changes."
                    " Restore the file, or start with an empty database"
                )
            continue
        async with connection.transaction():
            await connection.execute(text)
            await connection.execute("INSERT INTO schema_migrations (name, sha256) VALUES ($1, $2)", name, digest)
        log.info("migrated", migration=name)
        applied.append(name)
    return applied
