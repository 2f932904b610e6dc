"""Encoded words in header fields (RFC 2047, as amended by RFC 2231 section 5), also the broken ones.

``=?utf-8?Q?caf=C3=A9?=`` carries non-ASCII text through ASCII headers. Real mail breaks every rule of it: blanks inside
the word, a character split over two words, words inside quoted strings, raw 8-bit octets beside or inside them. This
reader works on octets and joins neighbouring words of one charset before it decodes, so that none of these lose text.
It is linear in the length of the header.
"""

from __future__ import annotations

import binascii
import re

from .charset import decode_text

# encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?="      (RFC 2047 section 2, RFC 2231 5)
_WORD_START = re.compile(rb"=\?([^?\s*]{0,60})(?:\*[^?\s]{0,40})?\?([bBqQ])\?")
_NOT_BASE64 = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"))
_HEX_PAIR = re.compile(rb"=([0-9A-Fa-f]{2})")


def header_text(value: bytes) -> str:
    """The unstructured field body ``value`` (folding allowed) as text: unfolded, decoded, trimmed.

    Never raises; holds no NUL, CR, LF or lone surrogate. RFC 5322 section 2.2.3, RFC 2047 section 6.
    """
    value = value.strip(b" \t\r\n")
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"").replace(b"\r", b" ")
    if b"=?" not in value and _is_plain(value):
        return value.decode("ascii")
    text = decode_words(value).strip(" \t")
    return text.replace("\n", " ").replace("\r", " ")


def decode_words(value: bytes) -> str:
    """``value`` with its encoded words decoded; the rest by UTF-8 or windows-1252. May hold a decoded CR or LF."""
    if b"=?" not in value:
        return value.decode("ascii") if _is_plain(value) else decode_text(value)
    texts: list[str] = []
    pending = bytearray()  # octets of neighbouring words in one charset, not decoded yet
    pending_charset = ""
    position = 0
    for start, end, charset, octets in _words(value):
        gap = value[position:start]
        # White space between two encoded words is not shown (RFC 2047 section 6.2), that before the first one is.
        gap_shown = gap and (not position or not gap.isspace())
        if pending and (gap_shown or charset != pending_charset):
            texts.append(decode_text(bytes(pending), pending_charset))
            pending.clear()
        if gap_shown:
            texts.append(decode_text(gap))
        pending_charset = charset
        pending += octets
        position = end
    if pending:
        texts.append(decode_text(bytes(pending), pending_charset))
    if position < len(value):
        texts.append(decode_text(value[position:]))
    return "".join(texts)


def _is_plain(value: bytes) -> bool:
    # An escape begins a character of ISO-2022-JP (RFC 1468), which old mailers put into header fields as it is.
    return value.isascii() and b"\0" not in value and b"\x1b" not in value


def _words(value: bytes) -> list[tuple[int, int, str, bytes]]:
    """Every encoded word: where it starts and ends, its charset, its octets."""
    found = []
    opening = _WORD_START.search(value)
    while opening is not None:
        end = value.find(b"?=", opening.end())
        if end < 0:
            break
        # A word never closed runs into the next one: the inner start is the true one.
        following = _WORD_START.search(value, opening.end())
        if following is not None and following.start() < end:
            opening = following
            continue
        text = value[opening.end() : end]
        octets = decode_base64(text) if opening[2] in b"bB" else _decode_q(text)
        found.append((opening.start(), end + 2, opening[1].decode("ascii", "replace").lower(), octets))
        opening = following
    return found


def _decode_q(text: bytes) -> bytes:
    # RFC 2047 section 4.2; a "=" without two hex digits stands for itself.
    return _HEX_PAIR.sub(lambda pair: bytes((int(pair[1], 16),)), text.replace(b"_", b" "))


def decode_base64(data: bytes) -> bytes:
    """The octets of base64 text (RFC 2045 section 6.8), as many as can be had from a broken one.

    Foreign characters are skipped, missing padding is added, and text after a padding (two encodings glued together)
    is decoded as well.
    """
    padding = data.find(b"=")
    if padding < 0 or not data[padding:].strip(b"=\r\n\t "):
        try:
            return binascii.a2b_base64(data)
        except binascii.Error:
            pass  # padding missing or a character too many; below
    octets = bytearray()
    for piece in data.translate(None, _NOT_BASE64.replace(b"=", b"")).split(b"="):
        usable = piece[: len(piece) // 4 * 4 + (0 if len(piece) % 4 == 1 else len(piece) % 4)]
        octets += binascii.a2b_base64(usable + b"=" * (-len(usable) % 4))
    return bytes(octets)
