"""The source of an email: our trace fields, then the bytes exactly as they were sent (RFC 5322).

Two things are done to what a stranger sent before it is shown: our own ``Return-Path``, ``Received`` and
``Authentication-Results`` go on top, and an ``Authentication-Results`` that arrived bearing one of our names is taken
out (RFC 8601 section 5). Mail sent from here is shown untouched. Only the header has to be looked at for that; the rest
is read from the store piece by piece, so that a large message never lies in memory as a whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container
from dataclasses import dataclass
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from clawmail.base.errors import StoreUnwell
from clawmail.core.directory import Directory
from clawmail.model.mailbox import EmailSource
from clawmail.protocol.authres import remove_forged
from clawmail.protocol.headers import MAX_HEADER_BYTES, split_message
from clawmail.protocol.mime.words import header_text
from clawmail.store import mailbox as store
from clawmail.store.db import Connection, Database

#: octets in which most headers end; a longer one is read again as a whole.
USUAL_HEADER_BYTES = 32 * 1024
#: octets of a header above which reading it moves to a thread; strangers write them to be costly.
CHEAP_HEADER_BYTES = 8 * 1024
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


class _Asked(Container[str]):
    """Holds nothing, and remembers what was looked for: the names that a message's fields claim."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return False


class Sources:
    """Shows the bytes of emails."""

    def __init__(self, db: Database, directory: Directory, *, hostname: str, mx_label: str) -> None:
        """``hostname`` and ``mx_label`` (of mx.<domain>) make the names that nobody else may vouch under."""
        self._db = db
        self._directory = directory
        self._hostname = hostname.lower()
        self._mx_prefix = f"{mx_label.lower()}."

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
        claimed = await _aside(_names_claimed, octets)
        ours = frozenset([name for name in claimed if await self._is_ours(name)])
        # Asked for even if no name is ours: a field that hides whose it is goes in any case.
        return _Beginning(source.trace + await _aside(_without_forged, octets, ours), len(octets))

    async def _is_ours(self, name: str) -> bool:
        if name == self._hostname:
            return True
        if not name.startswith(self._mx_prefix):
            return False
        domain = await self._directory.domain(name.removeprefix(self._mx_prefix))
        return domain is not None and domain.verified


def _names_claimed(octets: bytes) -> set[str]:
    """Whose names the Authentication-Results fields of a message bear."""
    asked = _Asked()
    remove_forged(split_message(octets), asked)
    return asked.names


def _without_forged(octets: bytes, ours: Container[str]) -> bytes:
    return remove_forged(split_message(octets), ours)


def _decoded_fields(octets: bytes) -> tuple[tuple[str, str], ...]:
    return tuple([(f.name.decode("ascii", "replace"), header_text(f.value)) for f in split_message(octets).fields])


async def _aside(read: Callable[Concatenate[bytes, P], T], octets: bytes, *more: P.args, **named: P.kwargs) -> T:
    """``read(octets, …)``, in a thread where the header is long."""
    if 0 <= octets.find(b"\r\n\r\n") <= CHEAP_HEADER_BYTES or len(octets) <= CHEAP_HEADER_BYTES:
        return read(octets, *more, **named)
    return await asyncio.to_thread(read, octets, *more, **named)
