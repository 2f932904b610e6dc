"""Forged Authentication-Results: fields that arrive bearing our name (RFC 8601 section 5).

A reader believes the field that names his own host as the one who judged, its *authserv-id*. So a message from outside
that brings such a field lies, and the field has to go before ours is put on top. It is known by its authserv-id,
however that is written: case, quotes, comments, folding, a last dot and a version behind it change nothing for a
lenient reader, so they change nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable

from clawmail.protocol.domain_name import to_ascii
from clawmail.protocol.headers import HeaderField, RawMessage

#: octets in which an authserv-id must show, behind white space and comments; an honest field has none of them. A field
#: whose id does not show there hides something, and goes.
MAX_ID_SEARCH = 512
#: fields of one message whose id is looked for behind comments and quotes; any more of them go as well.
MAX_ODD_IDS = 64
#: different ids on one message; a message that passed a dozen hosts has a dozen. Fields with any more of them go, too.
MAX_IDS = 64

# The whole field in a header, its value as a group; possessive, so that no header costs more than its length.
_RESULTS_FIELD = re.compile(
    rb"^authentication-results[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)\n?", re.IGNORECASE | re.MULTILINE
)
# An authserv-id as honest writers put it: one word, perhaps a version, and the end of the id.
_HONEST_ID = re.compile(rb"\s*+([^\s;()\"\\]++)\s*+(?:[0-9]++\s*+)?(?:;|\Z)")
# The pieces of one that takes more reading, outside and inside of comments (RFC 5322 section 3.2.2).
_OUTSIDE = re.compile(rb'"((?:[^"\\]|\\.)*+)"|\(|[^("]++|"', re.DOTALL)
_INSIDE = re.compile(rb"\\.|[()]|[^()\\]++|\\", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_DOT_WITH_SPACE = re.compile(rb"\s*\.\s*")


def claimed_names(message: RawMessage) -> frozenset[str]:
    """The authserv-ids of a message's fields, for a caller who has to ask elsewhere which of them are ours."""
    names = _Names()
    read = (names.read(match[1]) for match in _results_fields(message))
    return frozenset(name for name in read if name is not None)


def strip_forged(fields: Iterable[HeaderField], our_names: Container[str]) -> tuple[HeaderField, ...]:
    """The fields less every Authentication-Results that claims to be written by one of ``our_names`` (section 5).

    ``our_names`` are lower-case A-labels without a last dot. ``ARC-Authentication-Results`` stays: it is covered by a
    signature of its own.
    """
    names = _Names()
    return tuple(
        field
        for field in fields
        if field.name.lower() != b"authentication-results" or not _is_forged(names.read(field.value), our_names)
    )


def remove_forged(message: RawMessage, our_names: Container[str]) -> bytes:
    """The octets of a message less what ``strip_forged`` takes out; the very same object where there is nothing.

    Works on the octets, so that nothing else changes, and also finds fields behind the end of what was cut into fields.
    """
    names = _Names()
    kept: list[bytes] = []
    at = 0
    for match in _results_fields(message):
        if _is_forged(names.read(match[1]), our_names):
            kept.append(message.raw[at : match.start()])
            at = match.end()
    return b"".join([*kept, message.raw[at:]]) if kept else message.raw


def _is_forged(name: str | None, our_names: Container[str]) -> bool:
    return name is None or name in our_names


def _results_fields(message: RawMessage) -> Iterable[re.Match[bytes]]:
    if b"authentication-results" not in message.by_name and not message.truncated:
        return ()
    return _RESULTS_FIELD.finditer(message.raw, 0, message.body_start)


class _Names:
    """Reads the authserv-ids of one message, as long as they are neither too many nor too well hidden."""

    def __init__(self) -> None:
        self._odd_left = MAX_ODD_IDS
        self._seen: set[str] = set()

    def read(self, value: bytes) -> str | None:
        """The authserv-id of a field's value, lower case, as A-labels, without a last dot; None for one that hides."""
        octets: bytes | None
        if (honest := _HONEST_ID.match(value)) and honest[1].isascii():
            octets = honest[1]
        elif self._odd_left == 0:
            return None
        else:
            self._odd_left -= 1
            octets = _odd_id(value)
        name = None if octets is None else _comparable(octets)
        if name is None or name in self._seen:
            return name
        if len(self._seen) == MAX_IDS or len(name) > MAX_ID_SEARCH:
            return None
        self._seen.add(name)
        return name


def _comparable(octets: bytes) -> str:
    """A host name as two of them are compared: A-labels, lower case, no last dot."""
    name = octets.decode("utf-8", "replace")
    return (to_ascii(name) or name).lower().removesuffix(".")


def _odd_id(value: bytes) -> bytes | None:
    """The authserv-id of a value that hides it behind comments or quotes; None when that takes too much reading."""
    head = value[:MAX_ID_SEARCH]
    pieces: list[bytes] = []
    at = depth = 0
    while match := (_INSIDE if depth else _OUTSIDE).match(head, at):
        at = match.end()
        piece = match[0]
        if piece == b"(":
            depth += 1
            pieces.append(b" ")
        elif depth:
            depth -= piece == b")"
        elif match[1] is not None:
            pieces.append(_QUOTED_PAIR.sub(rb"\1", match[1]))
        else:
            pieces.append(piece)
    text, end, _ = b"".join(pieces).partition(b";")
    # A dot joins what white space and comments part: "mx . example.org" is taken for one name by lenient readers.
    text = _DOT_WITH_SPACE.sub(b".", text)
    words = text.split(None, 1)
    if len(head) < len(value) and not end and (not words or text.endswith(words[0])):
        return None
    return words[0] if words else b""
