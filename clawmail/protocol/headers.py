"""Header fields as they were written (RFC 5322 section 2.2), and the tag lists of DKIM's family (RFC 6376 section 3.2).

A signature covers octets, so this module never re-writes: a message is cut into its fields and its body, each field
keeps its folding, case and spaces, and whoever needs the value unfolded asks ``unfold``. It is forgiving where mail is
broken, in the way Postfix and the standard library are: a line that is neither a field nor a continuation ends the
header, and the body starts there; spaces before the colon (RFC 5322 section 4.5) are taken; a leading mbox ``From ``
line is skipped. CRLF is the line end; a bare LF is read as one too, but stays what it is in ``raw``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

#: fields of one message that are looked at; what lies beyond is kept raw and ``RawMessage.truncated`` says so.
MAX_FIELDS = 8_192
#: octets of a header that are looked at, for the same reason.
MAX_HEADER_BYTES = 4 * 1024 * 1024

# RFC 5322 section 2.2: field = field-name ":" unstructured CRLF; field-name = 1*(%d33-57 / %d59-126).
# Octets of 128 and above are let through in names (RFC 6532 writers get it wrong). The quantifiers are possessive, so a
# header of a million folded lines costs a million steps and no stack to go back on.
# The value is taken with the CR of its line end: scanning for one octet is twice as quick as for any of two.
_FIELD = re.compile(rb"([^\x00-\x20:\x7f]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*+)(?:\n|\Z)")
# Not "From : ann@example.org", a field as RFC 5322 section 4.5 still allows it to be written.
_MBOX_LINE = re.compile(rb"From (?![ \t]*:)[^\n]*\n")
_BLANK_LINE = re.compile(rb"\r?\n")
_HEADER_END = re.compile(rb"^\r?\n", re.MULTILINE)

# RFC 6376 section 3.2: tag-name = ALPHA *ALNUMPUNC; tval = 1*VALCHAR, of %x21-3A / %x3C-7E; FWS is unfolded before.
_TAG_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*+")
_LIST_OCTETS = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])


class HeaderField(NamedTuple):
    """One field of a header."""

    #: as written, without the colon and the spaces before it.
    name: bytes
    #: everything after the colon, folding kept, without the final CRLF.
    value: bytes
    #: the whole field with its final CRLF.
    raw: bytes


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message cut into fields and body; made by ``split_message``."""

    #: the whole message.
    raw: bytes
    #: in the order of the message, topmost first.
    fields: tuple[HeaderField, ...]
    #: where in ``raw`` the body starts, behind the empty line.
    body_start: int
    #: the header has more than ``MAX_FIELDS`` or ``MAX_HEADER_BYTES``; ``fields`` holds its beginning.
    truncated: bool
    #: the fields by lower-case name, topmost first.
    by_name: Mapping[bytes, list[HeaderField]]

    @property
    def body(self) -> bytes:
        """The body: a copy, so keep it rather than ask twice."""
        return self.raw[self.body_start :]

    def first(self, name: bytes | str) -> HeaderField | None:
        """The topmost field of that name, compared without case."""
        found = self.by_name.get(_key(name))
        return found[0] if found else None

    def all(self, name: bytes | str) -> list[HeaderField]:
        """Every field of that name, topmost first."""
        return list(self.by_name.get(_key(name), ()))


def _key(name: bytes | str) -> bytes:
    return (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).lower()


def split_message(raw: bytes) -> RawMessage:
    """Cut a message into header fields and body (RFC 5322 section 2.1). Linear, and never raises.

    A message without an empty line has no body, unless a line that is no field ends its header.
    """
    position = mbox_line.end() if (mbox_line := _MBOX_LINE.match(raw)) else 0
    limit = position + MAX_HEADER_BYTES
    fields: list[HeaderField] = []
    by_name: dict[bytes, list[HeaderField]] = {}
    while match := _FIELD.match(raw, position):
        if len(fields) == MAX_FIELDS or position >= limit:
            end = _HEADER_END.search(raw, position)
            return RawMessage(raw, tuple(fields), end.end() if end else len(raw), True, by_name)
        whole, name, value = match.group(0, 1, 2)
        if whole.endswith(b"\n"):
            value = value.removesuffix(b"\r")
        else:
            whole += b"\r\n"
        field = HeaderField(name, value, whole)
        fields.append(field)
        by_name.setdefault(name.lower(), []).append(field)
        position = match.end()
    blank_line = _BLANK_LINE.match(raw, position)
    return RawMessage(raw, tuple(fields), blank_line.end() if blank_line else position, False, by_name)


def without_mbox_line(raw: bytes) -> bytes:
    """The message less a leading mbox ``From `` line: with fields put above it, it would end the header."""
    mbox_line = _MBOX_LINE.match(raw)
    return raw[mbox_line.end() :] if mbox_line else raw


def to_crlf(raw: bytes) -> bytes:
    """The message with every bare LF made CRLF, as a file on disk is read; bare CRs stay."""
    if raw.count(b"\n") == raw.count(b"\r\n"):
        return raw
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def unfold(value: bytes) -> bytes:
    """A field's value on one line (RFC 5322 section 2.2.3): line ends go, the white space behind them stays."""
    return value.replace(b"\r\n", b"").replace(b"\n", b"") if b"\n" in value else value


def parse_tag_list(value: bytes) -> dict[str, bytes] | None:
    """Read a ``tag=value; …`` list (RFC 6376 section 3.2); None when it is malformed or names a tag twice.

    Tags keep their order and case, values are stripped of surrounding white space and unfolded. Octets of 128 and above
    are let through in values (RFC 8616 section 4). ``tag_list_problem`` says in words what was wrong.
    """
    text = unfold(value)
    if text.translate(None, _LIST_OCTETS):
        return None
    # tag-list = tag-spec *( ";" tag-spec ) [ ";" ]
    specs = text.split(b";")
    if not specs[-1].strip():
        specs.pop()
    tags: dict[str, bytes] = {}
    for spec in specs:
        name, equals, content = spec.partition(b"=")
        name = name.strip()
        if not equals or not _TAG_NAME.fullmatch(name):
            return None
        tags[name.decode()] = content.strip()
    # "Tags with duplicate names MUST NOT occur within a single tag-list; if … the entire tag-list is invalid."
    return tags if tags and len(tags) == len(specs) else None


def tag_list_problem(value: bytes) -> str:
    """Why ``parse_tag_list`` gave None for this value, in words; "" when it did not."""
    text = unfold(value)
    if not text.strip():
        return "the list is empty"
    if text.translate(None, _LIST_OCTETS):
        return "it holds control characters"
    seen: set[bytes] = set()
    specs = text.split(b";")
    for spec in specs if specs[-1].strip() else specs[:-1]:
        name, equals, _ = spec.partition(b"=")
        name = name.strip()
        if not equals:
            return f"{_show(spec.strip())!r} is not of the form tag=value"
        if not _TAG_NAME.fullmatch(name):
            return f"{_show(name)!r} is not a tag name"
        if name in seen:
            return f"the tag {_show(name)}= is given twice"
        seen.add(name)
    return ""


def _show(text: bytes) -> str:
    return text[:40].decode("ascii", "replace")
