"""What the doctor asks the database about itself and the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.store.db import Connection
from clawmail.store.queries import load, sql_folder

#: sealed keys fetched at once.
KEYS_AT_ONCE = 500
_FIRST_ID = UUID(int=0)
_sql = load("doctor")


class Server(NamedTuple):
    """A PostgreSQL."""

    version: str
    version_number: int
    #: of this database, in bytes.
    bytes: int
    now: datetime
    #: a standby, which takes no mail.
    read_only: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: bool
    has_schema: bool
    #: of its files, when it runs on this machine and we may know.
    directory: str | None


class SealedKey(NamedTuple):
    """A DKIM key as it is kept."""

    id: UUID
    private_sealed: bytes
    selector: str
    domain: str


class WebhookSecrets(NamedTuple):
    """What signs the events of an endpoint, as it is kept."""

    id: UUID
    secret_sealed: bytes
    #: set while the secret before this one signs too.
    old_secret_sealed: bytes | None
    domain: str


class Queue(NamedTuple):
    """What is in the queue."""

    waiting: int
    held: int
    leased: int
    overdue_leases: int


async def server(conn: Connection) -> Server:
    """What PostgreSQL says of itself."""
    return Server._make(await conn.fetchrow(_sql.server))


async def missing_migrations(conn: Connection) -> list[str]:
    """Migrations of this program that the database does not have; it has a schema."""
    done = {row["name"] for row in await conn.fetch(_sql.migrations)}
    return [name for name, _ in sql_folder("migrations") if name not in done]


async def sealed_keys(conn: Connection) -> AsyncIterator[SealedKey]:
    """Every DKIM key that signs or waits, by id."""
    last = _FIRST_ID
    while rows := await conn.fetch(_sql.sealed_keys, last, KEYS_AT_ONCE):
        for row in rows:
            yield SealedKey._make(row)
        last = rows[-1]["id"]


async def webhook_secrets(conn: Connection, now: datetime) -> AsyncIterator[WebhookSecrets]:
    """The secrets of every endpoint, by id."""
    last = _FIRST_ID
    while rows := await conn.fetch(_sql.webhook_secrets, last, KEYS_AT_ONCE, now):
        for row in rows:
            yield WebhookSecrets._make(row)
        last = rows[-1]["id"]


async def oldest_due(conn: Connection, now: datetime) -> datetime | None:
    """Since when the oldest delivery waits that nothing but us holds up."""
    moment: datetime | None = await conn.fetchval(_sql.oldest_due, now)
    return moment


async def queue(conn: Connection, now: datetime) -> Queue:
    """What is in the queue."""
    return Queue._make(await conn.fetchrow(_sql.queue, now))
