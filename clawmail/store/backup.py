"""Whole tables in and out, in PostgreSQL's own binary COPY format.

Out: everything is read in one transaction that sees the database at one moment (REPEATABLE READ), beside daemons that
go on working. In: everything is written in one transaction, so that a restore that is cut off leaves nothing behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from clawmail.base import errors
from clawmail.base.ids import first_id_at, time_of
from clawmail.store.db import Connection, translate
from clawmail.store.queries import load

#: seconds that one table may take.
TABLE_SECONDS = 6 * 3600.0
_sql = load("backup")


class _ByDay(NamedTuple):
    """The queries for a table that is kept by day."""

    #: what the names of its files end with.
    suffix: str
    #: the first message at or behind an id.
    next: str
    #: how many messages from one id up to another, and a digest of which.
    between: str
    #: their rows.
    rows: str


#: messages are immutable and large, so the tables that hold them are kept by day.
BY_DAY = {
    "messages": _ByDay("", _sql.next_message, _sql.messages_between, _sql.messages_of_day),
    "message_pieces": _ByDay("-pieces", _sql.next_in_pieces, _sql.in_pieces_between, _sql.pieces_of_day),
}


class TableShape(NamedTuple):
    """A table and its columns."""

    name: str
    columns: tuple[str, ...]


class Day(NamedTuple):
    """The messages of one day (UTC) by the time in their ids, and which they are."""

    day: date
    rows: int
    #: SHA-256 over the ids.
    digest: str


@contextlib.asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[Connection]:
    """A connection that sees the database as it is now, for as long as it is open."""
    async with _connection(url) as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        yield conn


@contextlib.asynccontextmanager
async def loading(url: str) -> AsyncIterator[Connection]:
    """A connection whose transaction commits at the end of the block."""
    async with _connection(url) as conn, conn.transaction():
        yield conn


@contextlib.asynccontextmanager
async def _connection(url: str) -> AsyncIterator[Connection]:
    try:
        settings = {"application_name": "clawmail backup", "timezone": "UTC"}
        conn = await asyncpg.connect(url, timeout=30, command_timeout=TABLE_SECONDS, server_settings=settings)
        try:
            yield conn
        finally:
            await conn.close(timeout=5)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # a file of the backup, not the store
        known = translate(error)
        raise known or errors.StoreUnwell(f"the store failed: {error}") from error


async def tables(conn: Connection) -> list[TableShape]:
    """Every table, those first that others refer to."""
    rows = {row["name"]: row for row in await conn.fetch(_sql.tables)}
    ordered: dict[str, TableShape] = {}
    while len(ordered) < len(rows):
        ready = [name for name, row in rows.items() if name not in ordered and set(row["needs"]) <= ordered.keys()]
        if not ready:
            raise ValueError(f"tables refer to each other in a ring: {sorted(rows.keys() - ordered.keys())}")
        ordered |= {name: TableShape(name, tuple(rows[name]["columns"])) for name in ready}
    return list(ordered.values())


async def migrations(conn: Connection) -> list[str]:
    """Names of the migrations that made the schema."""
    return [row["name"] for row in await conn.fetch(_sql.migrations)]


async def days(conn: Connection, table: TableShape) -> AsyncIterator[Day]:
    """The days that have messages in a table of ``BY_DAY``, oldest first."""
    queries = BY_DAY[table.name]
    found: UUID | None = await conn.fetchval(queries.next, UUID(int=0))
    while found is not None:
        day = time_of(found).date()
        first, end = bounds(day)
        row = await conn.fetchrow(queries.between, first, end)
        yield Day(day, row["rows"], row["digest"])
        found = await conn.fetchval(queries.next, end)


def bounds(day: date) -> tuple[UUID, UUID]:
    """The first id of a day, and the first of the next."""
    midnight = datetime.combine(day, time(), UTC)
    return first_id_at(midnight), first_id_at(midnight + timedelta(days=1))


async def copy_table(conn: Connection, table: TableShape, write: Callable[[bytes], Awaitable[None]]) -> int:
    """Hands a table's rows to ``write``; how many."""
    return _rows(await conn.copy_from_table(table.name, columns=table.columns, output=write, format="binary"))


async def copy_day(conn: Connection, table: TableShape, day: date, write: Callable[[bytes], Awaitable[None]]) -> int:
    """Hands a table's rows of a day's messages to ``write``, every column in its order; how many. See ``BY_DAY``."""
    first, end = bounds(day)
    return _rows(await conn.copy_from_query(BY_DAY[table.name].rows, first, end, output=write, format="binary"))


async def load_table(conn: Connection, table: TableShape, source: AsyncIterator[bytes]) -> int:
    """Fills a table with what was copied out of it; how many rows. Raises OSError or ValueError of the source."""
    return _rows(await conn.copy_to_table(table.name, columns=table.columns, source=source, format="binary"))


async def holds_something(conn: Connection) -> bool:
    """Whether the database is in use."""
    return bool(await conn.fetchval(_sql.holds_something))


async def finish_loading(conn: Connection, *, hold_queue: bool) -> None:
    """What the tables do not say by themselves, once they are filled."""
    await conn.execute(_sql.drop_unheld_messages)
    if hold_queue:
        await conn.execute(_sql.hold_queue)
        if any(table.name == "webhooks" for table in await tables(conn)):  # older schemas have none
            await conn.execute(_sql.hold_webhooks)
    await conn.execute(_sql.analyse)


def _rows(tag: str) -> int:
    """The number of rows in PostgreSQL's ``COPY 17``."""
    return int(tag.rpartition(" ")[2])
