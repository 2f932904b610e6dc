"""The source of an email: our trace fields, then the bytes exactly as they were sent (RFC 5322).

Two things are done to what a stranger sent before it is shown: our own ``Return-Path``, ``Received`` and
``Authentication-Results`` go on top, and an ``Authentication-Results`` that arrived bearing one of our names is taken
out (RFC 8601 section 5). Mail sent from here is shown untouched. Only the header has to be looked at for that; the rest
is read from the store piece by piece, so that a large message never lies in memory as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from clawmail.base.errors import StoreUnwell
from clawmail.core.our_names import CHEAP_HEADER_BYTES, OurNames
from clawmail.model.mailbox import EmailSource
from clawmail.protocol.headers import MAX_HEADER_BYTES, split_message
from clawmail.protocol.mime.words import header_text
from clawmail.store import mailbox as store
from clawmail.store.db import Connection, Database

#: octets in which most headers end; a longer one is read again as a whole.
USUAL_HEADER_BYTES = 32 * 1024
#: octets of a message read at once.
PIECE_BYTES = 1024 * 1024

P = ParamSpec("P")
T = TypeVar("T")


class _Beginning(NamedTuple):
    """The first octets of a message, with its whole header."""

    #: as shown: trace on top, forged fields taken out.
    shown: bytes
    #: how many octets of the message they stand for.
    read: int


@dataclass(frozen=True, slots=True)
class SourceText:
    """An email as message/rfc822."""

    #: octets of all pieces together.
    size: int
    pieces: AsyncIterator[bytes]


class Sources:
    """Shows the bytes of emails."""

    def __init__(self, db: Database, our_names: OurNames) -> None:
        self._db = db
        self._our_names = our_names

    async def headers(self, conn: Connection, source: EmailSource) -> tuple[tuple[str, str], ...]:
        """Every header field of what ``text`` gives, in order: name as written, value unfolded and decoded."""
        beginning = await self._beginning(conn, source)
        return await _aside(_decoded_fields, beginning.shown)

    async def text(self, source: EmailSource) -> SourceText:
        """The email as message/rfc822."""
        async with self._db.connection() as conn:
            beginning = await self._beginning(conn, source)
        return SourceText(
            len(beginning.shown) + source.raw_size - beginning.read,
            self._pieces(source, beginning),
        )

    async def _pieces(self, source: EmailSource, beginning: _Beginning) -> AsyncIterator[bytes]:
        yield beginning.shown
        at = beginning.read
        while at < source.raw_size:
            # No connection is held while the caller, who may be slow, takes what he was given.
            async with self._db.connection() as conn:
                piece = await store.raw_piece(conn, source.message_row, at, PIECE_BYTES)
            if not piece:
                raise StoreUnwell("the email was removed while it was being read")
            at += len(piece)
            yield piece

    async def _beginning(self, conn: Connection, source: EmailSource) -> _Beginning:
        octets = await store.raw_piece(conn, source.message_row, 0, USUAL_HEADER_BYTES)
        if len(octets) < source.raw_size and split_message(octets).body_start >= len(octets):
            octets = await store.raw_piece(conn, source.message_row, 0, MAX_HEADER_BYTES + PIECE_BYTES)
        if source.direction == "outbound":
            return _Beginning(source.trace + octets, len(octets))
        honest = await self._our_names.honest(await _aside(split_message, octets))
        return _Beginning(source.trace + honest.raw, len(octets))


def _decoded_fields(octets: bytes) -> tuple[tuple[str, str], ...]:
    return tuple([(f.name.decode("ascii", "replace"), header_text(f.value)) for f in split_message(octets).fields])


async def _aside(read: Callable[Concatenate[bytes, P], T], octets: bytes, *more: P.args, **named: P.kwargs) -> T:
    """``read(octets, …)``, in a thread where the header is long."""
    if 0 <= octets.find(b"\r\n\r\n") <= CHEAP_HEADER_BYTES or len(octets) <= CHEAP_HEADER_BYTES:
        return read(octets, *more, **named)
    return await asyncio.to_thread(read, octets, *more, **named)
