"""Large messages: their bytes are written piece by piece, with a rest after each, and read so as well.

A commit waits until everything written ahead of it is on the disk, whoever wrote it. So that a small one never waits
for more than a piece, and the database has a breath for others in between, a message of 24 MiB is two hundred
statements of one transaction. Readers do not see the difference (``pieces_of`` and ``piece_of`` in
sql/migrations/0015_pieces.sql).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from clawmail.model.mail import Message
from clawmail.store.db import Connection
from clawmail.store.filing import message_row
from clawmail.store.queries import load

#: octets from which a message is written in pieces.
LARGE_BYTES = 1024 * 1024
#: octets of every piece but the last; the schema knows them as well.
PIECE_BYTES = 128 * 1024

#: awaited after each piece, with the seconds that it took.
Rest = Callable[[float], Awaitable[None]]

#: octets read at a time.
READ_BYTES = 8 * PIECE_BYTES

_sql = load("postings")
_raw_piece = load("mailbox").raw_piece


async def write(conn: Connection, message: Message, rest: Rest) -> None:
    """Writes a large message inside the caller's transaction."""
    identifier, _, *columns = await asyncio.to_thread(message_row, message)
    await conn.execute(_sql.insert_message, identifier, None, *columns)
    raw = memoryview(message.raw)
    for number, start in enumerate(range(0, len(raw), PIECE_BYTES)):
        began = time.perf_counter()
        await conn.execute(_sql.insert_piece, identifier, number, raw[start : start + PIECE_BYTES])
        await rest(time.perf_counter() - began)


async def read(conn: Connection, message_id: UUID, size: int) -> bytes:
    """The ``size`` bytes of a message, however they are stored; none takes the loop or the database long."""
    starts = range(0, size, READ_BYTES)
    parts: list[bytes] = [await conn.fetchval(_raw_piece, message_id, start, READ_BYTES) for start in starts]
    return await asyncio.to_thread(b"".join, parts)
