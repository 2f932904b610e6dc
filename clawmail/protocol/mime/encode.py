"""Header fields written (RFC 5322 section 2.2.3, RFC 2047, RFC 2231, RFC 6532).

The opposite of ``words`` and ``parameters``, and strict where they are forgiving: a value that holds a CR or LF, raw or
hidden inside an encoded word, is refused before anything is written. Lines stay below 78 columns where they can and
below 998 always. The standard library's header classes are not used: they take 100 µs a field, and before Python
3.11.10 they write an encoded word that decodes to a line end as a new header field (CVE-2024-6923).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from urllib.parse import quote

from .charset import clean
from .mailboxes import Mailbox
from .words import decode_words

#: columns of a header line (RFC 5322 section 2.1.1): the recommended width, and the one never exceeded.
LINE_COLUMNS = 78
MAX_LINE_COLUMNS = 998
#: characters of one encoded word (RFC 2047 section 2).
MAX_WORD_CHARS = 75
#: characters of a header value a caller may set.
MAX_VALUE_CHARS = 64 * 1024

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_CONTROLS = re.compile(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_PLAIN_PARAMETER = re.compile(r"[ -~]{0,60}")
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")  # RFC 2047 section 5 (3)
_Q_CODES = ["_" if octet == 0x20 else chr(octet) if octet in _Q_SAFE else f"={octet:02X}" for octet in range(256)]


class ComposeError(ValueError):
    """A draft that cannot be written as a message. ``field`` names what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def checked(field: str, value: str) -> str:
    """``value``, fit for a header; raises ``ComposeError`` when it would end the line it is written on."""
    if len(value) > MAX_VALUE_CHARS:
        raise ComposeError(field, f"longer than {MAX_VALUE_CHARS} characters")
    if "\r" in value or "\n" in value or "\0" in value:
        raise ComposeError(field, "holds a line break or NUL")
    if "=?" in value:
        decoded = decode_words(value.encode("utf-8", "replace"))
        if "\r" in decoded or "\n" in decoded:
            raise ComposeError(field, "holds an encoded word that decodes to a line break")
    return _CONTROLS.sub(" ", clean(value))


def checked_name(name: str) -> str:
    """``name``, fit as the name of a header field."""
    if not _FIELD_NAME.fullmatch(name):
        raise ComposeError(f"headers.{name[:76]!r}", "not a header field name")
    return name


def text_field(name: str, value: str, *, encoded: bool = False) -> str:
    """An unstructured field, folded, with its CRLF. ``value`` has been ``checked``.

    What looks like an encoded word is meant as text and shown as it stands, unless the caller says ``encoded``.
    """
    if value.isascii() and (encoded or "=?" not in value):
        line = f"{name}: {value}"
        if len(line) <= LINE_COLUMNS:
            return line + "\r\n"
        words = value.split(" ")
        if max(map(len, words)) < MAX_LINE_COLUMNS - len(name) - 2:
            return fold(f"{name}:", words)
    return fold(f"{name}:", encoded_words(value, len(name) + 2))


def ids_field(name: str, ids: Iterable[str]) -> str:
    """A field of message ids, one line each where it must."""
    return fold(f"{name}:", [identifier for identifier in ids if len(identifier) < MAX_LINE_COLUMNS - 2])


def mailboxes_field(name: str, mailboxes: Iterable[Mailbox]) -> str:
    """An address field, folded between mailboxes."""
    pieces: list[str] = []
    for mailbox in mailboxes:
        if pieces:
            pieces[-1] += ","
        pieces.extend(_mailbox(mailbox))
    return fold(f"{name}:", pieces)


def parameter(name: str, value: str) -> str:
    """``; name=value`` for Content-Type and Content-Disposition; long and foreign values by RFC 2231 sections 3, 4."""
    if _PLAIN_PARAMETER.fullmatch(value):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'
    encoded = quote(value.encode("utf-8", "replace"), safe="")
    pieces, start = [], 0
    while start < len(encoded):
        end = min(start + 54, len(encoded))
        end -= next((back for back in (1, 2) if encoded[end - back] == "%"), 0) if end < len(encoded) else 0
        pieces.append(encoded[start:end])
        start = end
    if len(pieces) == 1:
        return f";\r\n {name}*=utf-8''{encoded}"
    first, *rest = pieces
    lines = [f";\r\n {name}*0*=utf-8''{first}"]
    return "".join(lines + [f";\r\n {name}*{number}*={piece}" for number, piece in enumerate(rest, 1)])


def encoded_words(text: str, columns_used: int) -> list[str]:
    """``text`` as encoded words, none of which parts a character (RFC 2047 section 5)."""
    octets = text.encode("utf-8", "replace")
    plain = sum(octet in _Q_SAFE or octet == 0x20 for octet in octets)
    # Q costs 3 characters for an octet it cannot show, B costs 4 for every 3.
    use_q = plain + 3 * (len(octets) - plain) <= len(octets) * 4 // 3 + 2
    words, current, current_chars = [], bytearray(), 0
    room = max(MAX_WORD_CHARS - columns_used, 24) - len("=?utf-8?q??=")
    for character in text:
        code = character.encode("utf-8", "replace")
        chars = sum(len(_Q_CODES[octet]) for octet in code) if use_q else 0
        if current and (current_chars + chars > room if use_q else (len(current) + len(code) + 2) // 3 * 4 > room):
            words.append(_word(bytes(current), use_q))
            current, current_chars, room = bytearray(), 0, MAX_WORD_CHARS - len("=?utf-8?q??=")
        current += code
        current_chars += chars
    return [*words, _word(bytes(current), use_q)]


def _word(octets: bytes, use_q: bool) -> str:
    if use_q:
        return f"=?utf-8?q?{''.join([_Q_CODES[octet] for octet in octets])}?="
    return f"=?utf-8?b?{base64.b64encode(octets).decode('ascii')}?="


def _mailbox(mailbox: Mailbox) -> list[str]:
    name, address = mailbox
    if not name:
        return [address]
    if _ATOMS.fullmatch(name) and len(name) < LINE_COLUMNS and "=?" not in name:
        return [*name.split(" "), f"<{address}>"]
    if name.isascii() and len(name) < LINE_COLUMNS and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        return [f'"{escaped}"', f"<{address}>"]
    return [*encoded_words(name, 12), f"<{address}>"]


def fold(start: str, pieces: list[str]) -> str:
    """``start`` and the ``pieces`` behind it, a blank before each, on as many lines as it takes; with its CRLF."""
    lines, current = [], start
    for piece in pieces:
        # A line of white space alone is not to be made (RFC 5322 section 3.2.2), so the first piece stays where it is.
        if len(current) + 1 + len(piece) > LINE_COLUMNS and current not in ("", start) and piece:
            lines.append(current)
            current = ""
        current += " " + piece
    return "\r\n".join([*lines, current]) + "\r\n"
