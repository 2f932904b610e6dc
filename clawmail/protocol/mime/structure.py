"""Where the parts of a message begin and end (RFC 2046 section 5.1), as offsets into its octets.

The reader walks the message once, from one line that starts with ``--`` to the next, and keeps the boundaries that are
open at the moment. As in the standard library, the boundary of any enclosing multipart ends what is inside it, so that
a forgotten closing line costs nothing. No octet is copied: a part is a slice, cut out when somebody asks for it.

What is beyond the limits is not lost. It stays in the raw message, and ``notes`` says what was not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .header import read_header
from .parameters import Structured, parse_structured

#: parts of one message, containers counted; the largest newsletters and digests have some dozens.
MAX_PARTS = 1_000
#: multiparts inside one another.
MAX_DEPTH = 50
#: lines that start with "--" and may be delimiters; a dump of a database as text has some hundred thousands.
MAX_CANDIDATES = 1_000_000
#: octets behind a multipart's header searched for the boundary its Content-Type forgot to name.
MAX_GUESS_OCTETS = 16 * 1024


@dataclass(slots=True)
class Part:
    """One part: its header, and where its body lies in the raw message."""

    #: name as written and raw body of each header field, in order.
    fields: list[tuple[bytes, bytes]]
    #: "type/subtype" in lower case; the default where the field is absent or unreadable (RFC 2045 section 5.2).
    content_type: str
    parameters: dict[str, str]
    #: "inline", "attachment" …, or None without the field.
    disposition: str | None
    #: the name the sender gave it, decoded; "" without one.
    filename: str
    #: Content-Transfer-Encoding in lower case; "" without the field.
    encoding: str
    #: Content-ID with its angle brackets, or None.
    content_id: str | None
    #: the body is ``raw[start:end]``.
    start: int
    end: int
    #: for a multipart, what was found in it; None for any other part, and for multiparts nested too deep to be opened.
    children: list[Part] | None = None


@dataclass(slots=True)
class Structure:
    """A whole message, taken apart."""

    root: Part
    #: what is broken, and what was not looked at.
    notes: list[str] = field(default_factory=list)


# A CR alone ends a line, as it did on old Macintoshes; "\r\r\n" is one line end, sent twice through a translation.
_LONE_CR = re.compile(rb"(?<!\r)\r++(?!\n)")
_DELIMITER = re.compile(rb"\n--([^\n]*)")
# boundary := 0*69<bchars> bcharsnospace      (RFC 2046 section 5.1.1); one to guess does not look like a closing line
_BOUNDARY_OCTET = re.compile(rb"[0-9A-Za-z'()+_,./:=?-]")
_BOUNDARY = re.compile(rb"(?!.*--\Z)[0-9A-Za-z'()+_,./:=? -]{1,70}")
_TYPE = re.compile(r"[\w!#$&.+^-]+/[\w!#$&.+^*-]+")
_NO_TYPE = Structured("", {})


def read_structure(raw: bytes) -> Structure:
    """Take ``raw`` apart. Linear in its length and the parts found, and never raises."""
    # Counting single octets first is quicker, and settles it for all mail whose lines end alike.
    if raw.count(b"\r") not in (0, raw.count(b"\n")) and raw.count(b"\r") != raw.count(b"\r\n"):
        raw = _LONE_CR.sub(
            lambda run: b"\n" * len(run[0]), raw
        )  # as long as before: the offsets hold for the message as it came
    notes: list[str] = []
    root = _read_part(raw, 0, "text/plain", {}, notes)
    structure = Structure(root, notes)
    if root.content_type.startswith("multipart/"):
        _Walk(raw, notes).run(root)
    return structure


class _Walk:
    """The multiparts open at one point of the message, outermost first."""

    def __init__(self, raw: bytes, notes: list[str]) -> None:
        self._raw = raw
        self._notes = notes
        self._open: list[tuple[bytes, Part]] = []
        #: boundary -> its place in ``_open``.
        self._levels: dict[bytes, int] = {}
        self._count = 1

    def run(self, root: Part) -> None:
        raw, current, position = self._raw, root, root.start
        self._enter(root)
        # A boundary may be the first line of a body, so the line end before it is looked at again.
        for _ in range(MAX_CANDIDATES):
            if not self._open or (found := _DELIMITER.search(raw, max(position - 1, 0))) is None:
                break
            position = found.end()
            line = found[1].rstrip(b" \t\r")
            level, closing = self._match(line)
            if level < 0:
                position += 1
                continue
            end = found.start() - (raw[found.start() - 1 : found.start()] == b"\r")
            self._leave(level + 1, end, current)
            _, multipart = self._open[level]
            if closing:
                self._leave(level, end, multipart)
                continue
            if self._count == MAX_PARTS:
                self._notes.append(f"more than {MAX_PARTS} parts: the rest was not looked at")
                break
            self._count += 1
            default = "message/rfc822" if multipart.content_type == "multipart/digest" else "text/plain"
            current = _read_part(raw, min(position + 1, len(raw)), default, self._levels, self._notes)
            assert multipart.children is not None  # it is open
            multipart.children.append(current)
            position = current.start
            if current.content_type.startswith("multipart/"):
                self._enter(current)
        else:
            self._notes.append(f"more than {MAX_CANDIDATES} lines start with two dashes: the rest was not looked at")
        if self._open:
            self._notes.append("a multipart is not closed")

    def _match(self, line: bytes) -> tuple[int, bool]:
        """Which open multipart a line behind "--" delimits, and whether it closes it; -1 for none."""
        for text, closing in ((line, False), (line.removesuffix(b"--"), True)):
            level = self._levels.get(text, -1)
            if level >= 0:
                return level, closing
        # "An exact match of the entire candidate line is not required" (RFC 2046 section 5.1.1): it may have rubbish
        # behind it, but nothing that would make it another boundary, as of a message inside this one.
        for boundary, level in reversed(self._levels.items()):
            if line.startswith(boundary):
                closing = line.startswith(b"--", len(boundary))
                if not _BOUNDARY_OCTET.match(line, len(boundary) + 2 * closing):
                    return level, closing
        return -1, False

    def _enter(self, part: Part) -> None:
        boundary = part.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        if not boundary and (guess := self._guess_boundary(part)):
            boundary = guess
            self._notes.append("a multipart names no boundary: guessed from its first line")
        if len(self._open) == MAX_DEPTH:
            self._notes.append(f"multiparts nested deeper than {MAX_DEPTH}: the inner ones were not looked at")
            return
        part.children = []
        if not boundary or boundary in self._levels:
            # With the boundary of an enclosing multipart, every delimiter would be read as that one's.
            self._notes.append("a multipart has no boundary of its own: shown as one part")
        else:
            self._levels[boundary] = len(self._open)
            self._open.append((boundary, part))

    def _leave(self, level: int, end: int, current: Part) -> None:
        """Close every multipart from ``level`` inwards: they, and the part being read, end at ``end``."""
        if current.end > end:
            current.end = max(end, current.start)
        for _, part in self._open[level:]:
            part.end = max(end, part.start)
        if level < len(self._open):
            del self._open[level:]
            self._levels = {boundary: place for place, (boundary, _) in enumerate(self._open)}

    def _guess_boundary(self, part: Part) -> bytes:
        raw, start = self._raw, max(part.start - 1, 0)
        found = _DELIMITER.search(raw, start, part.start + MAX_GUESS_OCTETS)
        line = found[1].rstrip(b" \t\r") if found else b""
        if found is None or not _BOUNDARY.fullmatch(line) or raw[part.start : found.start()].strip():
            return b""
        closing = raw.find(b"\n--" + line + b"--", found.end())
        # Nothing may be lost to a guess: the multipart ends the message, or the one it is in goes on.
        below = raw[closing + len(line) + 5 :][:MAX_GUESS_OCTETS].strip()
        return line if closing >= 0 and (not below or (self._open and below.startswith(b"--"))) else b""


def _read_part(raw: bytes, start: int, default_type: str, levels: dict[bytes, int], notes: list[str]) -> Part:
    fields, body_start = read_header(raw, start, levels, notes)
    type_field, disposition_field, encoding, content_id = _NO_TYPE, None, "", None
    # The first of several fields counts, as in the standard library: so the reading starts from the last.
    for name, value in reversed(fields):
        if len(name) < 10 or name[:8].lower() != b"content-":
            continue
        match name[8:].lower():
            case b"type":
                type_field = parse_structured(value)
            case b"disposition":
                disposition_field = parse_structured(value)
            case b"transfer-encoding":
                encoding = parse_structured(value).value
            case b"id":
                content_id = value.strip().decode("utf-8", "replace").replace("\0", "\ufffd") or None
    disposition = None if disposition_field is None else disposition_field.value or None
    filename = "" if disposition_field is None else disposition_field.parameters.get("filename", "")
    content_type = type_field.value if _TYPE.fullmatch(type_field.value) else default_type
    return Part(
        fields,
        content_type,
        type_field.parameters,
        disposition,
        filename or type_field.parameters.get("name", ""),
        encoding,
        content_id,
        body_start,
        len(raw),
    )
