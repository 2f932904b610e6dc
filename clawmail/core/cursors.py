"""Cursors: where the next page of a list begins, as a token that nobody else can make.

A list is walked by id, and its next page begins after the last id shown. The token holds that id and a signature over
it, the list's name and its owner, so that a cursor made up, or taken from another list or another tenant, is refused
instead of giving a page of who knows what. What a list has to know of the walk so far goes into the token too.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from uuid import UUID

from clawmail.base.errors import Invalid

#: octets of the signature kept in a cursor: enough that nobody guesses one through an API.
SIGNATURE_BYTES = 8
ID_BYTES = 16


class Cursors:
    """Makes and reads cursors."""

    def __init__(self, key: bytes) -> None:
        """``key``: ``Keyring.signing_key("cursor")``, the same in every process."""
        self._key = key

    def write(self, name: str, owner: UUID, last: UUID, *known: UUID) -> str:
        """The cursor behind ``last`` in the list ``name`` of ``owner`` (an inbox or a domain).

        ``known``: what ``read_all`` gives back beside it.
        """
        ids = b"".join(each.bytes for each in (last, *known))
        return base64.urlsafe_b64encode(ids + self._signature(name, owner, ids)).decode()

    def read(self, name: str, owner: UUID, cursor: str | None) -> UUID | None:
        """The id a cursor stands for; None for None, the beginning. Raises Invalid for one not made here."""
        return next(iter(self.read_all(name, owner, cursor)), None)

    def read_all(self, name: str, owner: UUID, cursor: str | None) -> tuple[UUID, ...]:
        """The id a cursor stands for and what was written beside it; nothing for None. Raises Invalid as ``read``."""
        if cursor is None:
            return ()
        try:
            token = base64.b64decode(cursor, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            token = b""
        ids, signature = token[:-SIGNATURE_BYTES], token[-SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, self._signature(name, owner, ids)):
            raise Invalid("cursor: not one that this list gave out", code="invalid_cursor", field="cursor")
        return tuple(UUID(bytes=ids[begin : begin + ID_BYTES]) for begin in range(0, len(ids), ID_BYTES))

    def _signature(self, name: str, owner: UUID, ids: bytes) -> bytes:
        return hmac.digest(self._key, b"\0".join((name.encode(), owner.bytes, ids)), "sha256")[:SIGNATURE_BYTES]
