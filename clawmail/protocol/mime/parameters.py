"""Structured MIME fields: a value and its parameters (RFC 2045 section 5.1, RFC 2183), long and foreign ones too.

A parameter may be cut in numbered pieces, carry a charset and percent-encoded octets (RFC 2231), or be written in the
ways the standards forbid and mailers produce: unquoted blanks, encoded words inside quotes, quotes inside quotes, a
semicolon forgotten. The reader takes what is meant, in one pass.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from .charset import decode_text
from .words import header_text

#: octets of one structured field that are looked at.
MAX_STRUCTURED_OCTETS = 64 * 1024
#: fields up to this long are remembered once read: ``text/plain; charset=utf-8`` arrives in every message.
MAX_REMEMBERED_OCTETS = 60
#: pieces of one RFC 2231 parameter, and parameters of one field.
MAX_PARAMETERS = 200


class Structured(NamedTuple):
    """A structured field, read."""

    #: the value before the first semicolon, lower case, without blanks; "" when there is none.
    value: str
    #: parameter name in lower case -> decoded text. The first of two equal names counts.
    parameters: dict[str, str]


# The value ends at a semicolon or, for those who forget it, at a blank.
_VALUE = re.compile(rb"[\s;]*+([^\s;()\"]*+)(?:\s*+/\s*+([^\s;()\"=]*+))?")
# parameter := attribute "=" value. A quote inside a quoted value counts as its end only where a parameter may end.
# Matches everywhere, also at the end of the field, so that no run of blanks is walked twice.
_PARAMETER = re.compile(
    rb"""[;\s"=]*+ (?: ([^\s=;"]++) \s*+
         (?: = \s*+ (?: "((?:[^"\\]|\\.|"(?!\s*(?:;|\Z|\(|[\w*-]+=)))*+)"?+ | ([^;]*+) ) )? )?""",
    re.VERBOSE | re.DOTALL,
)
_QUOTED_PAIR = re.compile(rb'\\(["\\])')
_TRAILING_COMMENT = re.compile(rb"\s+\([^()]*\)\s*\Z")
_HEX_PAIR = re.compile(rb"%([0-9A-Fa-f]{2})")
# RFC 2231 sections 3 and 4: attribute ["*" section] ["*"]
_EXTENDED_NAME = re.compile(r"([^*]+)\*(?:(\d{1,4})(\*)?)?")


def parse_structured(field: bytes) -> Structured:
    """Read ``field``, the raw body of a Content-Type or Content-Disposition. Never raises, linear in its length."""
    return _remembered(field) if len(field) <= MAX_REMEMBERED_OCTETS else _parse(field[:MAX_STRUCTURED_OCTETS])


def _parse(field: bytes) -> Structured:
    match = _VALUE.match(field)
    assert match is not None  # every piece of it is optional
    value = match[1] if match[2] is None else match[1] + b"/" + match[2]
    parameters: dict[str, str] = {}
    extended: dict[str, list[tuple[int, bool, bytes]]] = {}
    for count, found in enumerate(_PARAMETER.finditer(field, match.end())):
        if found[1] is None or count == MAX_PARAMETERS:
            break
        name = found[1].decode("ascii", "replace").lower()
        octets = _octets(name, found[2], found[3])
        if octets is None:
            continue
        if "*" in name and (marked := _EXTENDED_NAME.fullmatch(name)):
            # "name*" is piece 0, encoded; "name*1" a plain piece; "name*1*" an encoded one.
            number, encoded = int(marked[2] or 0), marked[2] is None or marked[3] is not None
            extended.setdefault(marked[1], []).append((number, encoded, octets))
        else:
            parameters.setdefault(name, header_text(octets))
    for name, pieces in extended.items():
        parameters[name] = _join_pieces(pieces)
    return Structured(value.decode("ascii", "replace").lower(), parameters)


_remembered = lru_cache(maxsize=1024)(_parse)


def _octets(name: str, quoted: bytes | None, token: bytes | None) -> bytes | None:
    if quoted is not None:
        return _QUOTED_PAIR.sub(rb"\1", quoted)
    if token is None:
        return None
    if name == "charset" or name.startswith("boundary"):
        # RFC 2045 section 5.1 shows a comment behind a token: charset=us-ascii (Plain text)
        token = _TRAILING_COMMENT.sub(b"", token)
    return token.strip()


def _join_pieces(pieces: list[tuple[int, bool, bytes]]) -> str:
    pieces.sort(key=lambda piece: piece[0])
    charset, joined, any_encoded = "", bytearray(), False
    for position, (_, encoded, octets) in enumerate(pieces):
        if encoded:
            any_encoded = True
            # extended-initial-value := [charset] "'" [language] "'" extended-other-values
            if position == 0 and octets.count(b"'") >= 2:
                label, _, octets = octets.split(b"'", 2)
                charset = label.decode("ascii", "replace")
            octets = _HEX_PAIR.sub(lambda pair: bytes((int(pair[1], 16),)), octets)
        joined += octets
    text = decode_text(bytes(joined), charset) if any_encoded else header_text(bytes(joined))
    return text.replace("\r", "").replace("\n", "")
