"""The two digests of a signature (RFC 6376 section 3.7), computed once for all signatures of a message.

A message may carry eight signatures and more in its ARC sets, and a stranger may choose another ``l=`` for each. The
body is therefore hashed in one pass per canonicalization, with a copy of the running hash taken at every length that
some signature asks for, and a header field is brought into form once however many signatures cover it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clawmail.protocol.dkim.canonical import canonical_body, canonical_field, canonical_signature_field
from clawmail.protocol.dkim.selection import selected_fields
from clawmail.protocol.headers import HeaderField, RawMessage


class BodyPart(NamedTuple):
    """The part of the body that a signature covers."""

    #: "simple" or "relaxed".
    canonicalization: str
    #: octets of the canonical body, from its start; None for all of it.
    length: int | None


class BodyDigests(NamedTuple):
    """SHA-256 digests of one canonical body."""

    #: octets of the whole canonical body.
    length: int
    #: by the ``l=`` they stop at; None stands for the whole body. A length beyond the body's has no digest.
    digests: dict[int | None, bytes]


class MessageHashes:
    """Digests of one message, each computed when it is first asked for."""

    def __init__(self, message: RawMessage, parts: Iterable[BodyPart]) -> None:
        """``parts`` are all the body parts that will be asked for."""
        self._message = message
        self._parts = tuple(parts)
        self._bodies: dict[str, BodyDigests] = {}
        self._relaxed_fields: dict[bytes, bytes] = {}

    def body(self, canonicalization: str) -> BodyDigests:
        """The digests of the body in that form, one for each length that is wanted of it."""
        known = self._bodies.get(canonicalization)
        if known is None:
            lengths = {length for form, length in self._parts if form == canonicalization and length is not None}
            # A view: copying 25 MiB would stop every other thread for as long as it takes.
            body = memoryview(self._message.raw)[self._message.body_start :]
            known = _digest_body(body, canonicalization, sorted(lengths))
            self._bodies[canonicalization] = known
        return known

    def header(self, names: Sequence[bytes], signature_field: HeaderField, canonicalization: str) -> bytes:
        """SHA-256 of the fields that ``names`` (lower case) select and of the signature field, its b= emptied."""
        if canonicalization == "simple":
            signed = [field.raw for field in selected_fields(self._message, names, signature_field)]
        else:
            signed = [self._relaxed(field) for field in selected_fields(self._message, names, signature_field)]
        signed.append(canonical_signature_field(signature_field, canonicalization))
        return hashlib.sha256(b"".join(signed)).digest()

    def _relaxed(self, field: HeaderField) -> bytes:
        # Python keeps the hash of a bytes object, so looking up a field by its octets costs them once.
        form = self._relaxed_fields.get(field.raw)
        if form is None:
            form = self._relaxed_fields[field.raw] = canonical_field(field, "relaxed")
        return form


def _digest_body(body: memoryview, canonicalization: str, lengths: Sequence[int]) -> BodyDigests:
    """Hash the canonical body in one pass; ``lengths`` ascend."""
    running = hashlib.sha256()
    digests: dict[int | None, bytes] = {}
    wanted = list(reversed(lengths))
    position = 0
    for block in canonical_body(body, canonicalization):
        start = 0
        while wanted and wanted[-1] <= position + len(block):
            end = wanted[-1] - position
            running.update(block[start:end])
            digests[wanted.pop()] = running.digest()
            start = end
        running.update(block[start:] if start else block)
        position += len(block)
    if wanted and wanted[-1] == position:
        digests[wanted.pop()] = running.digest()
    digests[None] = running.digest()
    return BodyDigests(position, digests)
