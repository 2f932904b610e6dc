"""The header of one part (RFC 5322 section 2.2), read where it lies in a message.

What is no field ends the header, unless more header follows it: a line whose fold was lost, or that some program threw
in, must not turn From and Subject into body. The header of a part also ends at a delimiter of a multipart around it.
"""

from __future__ import annotations

import re
from collections.abc import Container

from .words import header_text

#: header fields of one part, and octets of one header and of one field.
MAX_FIELDS = 8_192
MAX_HEADER_OCTETS = 4 * 1024 * 1024
MAX_FIELD_OCTETS = 4 * 1024 * 1024
#: lines that are no header field, between fields, that are taken for a broken fold.
MAX_STRAY_LINES = 20
#: octets of such a line that a note shows.
MAX_NOTE_OCTETS = 200

# field-name ":" body, with its folded lines (RFC 5322 section 2.2). Possessive: a long header needs no stack.
_FIELD = re.compile(rb"([!-9;-~]*+)[ \t]*+:((?:[^\n]*+\n[ \t])*+[^\n]*+)(?:\n|\Z)")
# A parameter whose fold was lost, behind the field it belongs to.
_PARAMETER = re.compile(rb"(?:boundary|charset|name|filename|report-type|type)[ \t]*=[^\n]*\n\r*\n", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r*+(?:\n|\Z)")
_BLANK_LINE_AHEAD = re.compile(rb"\n\r*+\n")
_MBOX_LINE = re.compile(rb">?From [^\n]*\n")
_LINE = re.compile(rb"[^\n]*\n")
# What follows a stray line must be one of these, if the stray line is not to be the first line of the body.
_KNOWN_FIELD = re.compile(
    rb"(?:from|to|cc|subject|date|message-id|mime-version|content-[a-z-]{2,30}|received|return-path|reply-to|sender"
    rb"|references|in-reply-to|dkim-signature|authentication-results|delivered-to|list-[a-z-]{2,30}|x-[\w-]{1,60})"
    rb"[ \t]*:",
    re.IGNORECASE,
)


def read_header(
    raw: bytes, start: int, boundaries: Container[bytes], notes: list[str]
) -> tuple[list[tuple[bytes, bytes]], int]:
    """The fields (name as written, raw body) that start at ``start``, and where the body behind them begins.

    ``boundaries`` are those of the multiparts around; ``notes`` is given what is broken.
    """
    fields: list[tuple[bytes, bytes]] = []
    position, stray_lines = start, 0
    if mbox_line := _MBOX_LINE.match(raw, position):
        position = mbox_line.end()
    while True:
        while match := _FIELD.match(raw, position):
            if boundaries and raw.startswith(b"--", position) and _is_delimiter(raw, position, boundaries):
                return fields, position
            if len(fields) == MAX_FIELDS or position - start > MAX_HEADER_OCTETS:
                notes.append(
                    f"more than {MAX_FIELDS} fields or {MAX_HEADER_OCTETS} octets of header: not all looked at"
                )
                blank_line = _BLANK_LINE_AHEAD.search(raw, position)
                return fields, blank_line.end() if blank_line else len(raw)
            name, value = match.groups()
            if len(value) > MAX_FIELD_OCTETS:
                notes.append(f"a field of the header has more than {MAX_FIELD_OCTETS} octets: not all looked at")
                value = value[:MAX_FIELD_OCTETS]
            fields.append((name, value))
            position = match.end()
        if blank_line := _BLANK_LINE.match(raw, position):
            return fields, blank_line.end()
        stray = _LINE.match(raw, position)
        if stray is None or stray_lines == MAX_STRAY_LINES or not _is_header(raw, stray, fields):
            # A line that is no field, with no header behind it: the empty line before the body was forgotten.
            if not boundaries or not _is_delimiter(raw, position, boundaries):
                notes.append("the empty line between header and body is missing")
            return fields, position
        stray_lines += 1
        notes.append(f'a line of the header is no field: "{header_text(stray[0][:MAX_NOTE_OCTETS])}"')
        if fields:  # most often a fold whose blank was lost
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + stray[0].strip())
        position = stray.end()


def _is_header(raw: bytes, stray: re.Match[bytes], fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether a line that is no field stands in the header, rather than at the start of the body."""
    if raw.startswith(b"--", stray.start()):
        return False  # more likely a delimiter, behind a line of blanks that was to end the header
    if _KNOWN_FIELD.match(raw, stray.end()):
        return True
    in_content_field = bool(fields) and fields[-1][0][:8].lower() == b"content-"
    return in_content_field and _PARAMETER.match(raw, stray.start()) is not None


def _is_delimiter(raw: bytes, position: int, boundaries: Container[bytes]) -> bool:
    end = raw.find(b"\n", position)
    line = raw[position + 2 : end if end >= 0 else len(raw)].rstrip(b" \t\r")
    return raw.startswith(b"--", position) and (line in boundaries or line.removesuffix(b"--") in boundaries)
