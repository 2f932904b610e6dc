"""Content-Transfer-Encoding undone (RFC 2045 section 6), as far as a broken encoding lets it be.

Nothing here raises: a base64 text with a character too many still gives all octets before it. Size and digest of a
large attachment are taken piece by piece, so that measuring 25 MiB costs no second 25 MiB.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterator

from .words import decode_base64

#: octets of a part labelled base64 in which its first line is looked for.
MAX_FIRST_LINE = 1_000
#: foreign characters in that line, as one in twenty at least, that make it text nobody encoded; one or two are damage.
MIN_FOREIGN = 3
#: octets of encoded text decoded at a time while an attachment is measured.
CHUNK_OCTETS = 1024 * 1024

_BLANKS = b" \t\r\n"
_SOFT_BREAK_BLANKS = re.compile(rb"=[ \t]++(?=\r?\n)")
_FOREIGN_TO_BASE64 = bytes(range(256)).translate(
    None, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
)
_UU_BEGIN = re.compile(rb"^begin[ \t]+[0-7]{3,4}[ \t][^\n]*\n", re.MULTILINE)
_UU_LABELS = {"x-uuencode", "uuencode", "uue", "x-uue"}


def decode_transfer(encoded: bytes, encoding: str) -> bytes:
    """The octets that ``encoded`` stands for; ``encoding`` is the lower-case token, an unknown one means "as it is"."""
    if encoding == "quoted-printable":
        # Blanks at a line's end were added on the way (RFC 2045 section 6.7, rule 3); they hide a soft line break.
        return binascii.a2b_qp(_SOFT_BREAK_BLANKS.sub(b"=", encoded))
    if encoding == "base64":
        return decode_base64(encoded)
    if encoding in _UU_LABELS:
        return _decode_uu(encoded)
    return encoded


def measure(raw: bytes, start: int, end: int, encoding: str) -> tuple[int, str]:
    """Decoded size in octets and SHA-256 (hex) of the part ``raw[start:end]``."""
    digest, size = hashlib.sha256(), 0
    for octets in _decoded_pieces(raw, start, end, encoding):
        digest.update(octets)
        size += len(octets)
    return size, digest.hexdigest()


def _decoded_pieces(raw: bytes, start: int, end: int, encoding: str) -> Iterator[bytes | memoryview]:
    if encoding in ("", "7bit", "8bit", "binary"):
        yield memoryview(raw)[start:end]
    elif encoding == "base64" and end - start > CHUNK_OCTETS:
        yield from _base64_pieces(raw, start, end)
    else:
        yield decode_transfer(raw[start:end], encoding)


def _base64_pieces(raw: bytes, start: int, end: int) -> Iterator[bytes]:
    carried = b""
    for position in range(start, end, CHUNK_OCTETS):
        piece = carried + raw[position : min(position + CHUNK_OCTETS, end)].translate(None, _BLANKS)
        whole = len(piece) // 4 * 4
        if b"=" in piece[:whole]:
            whole = piece.index(b"=") // 4 * 4  # the padding, and whatever is glued behind it, is left to the end
            yield binascii.a2b_base64(piece[:whole])
            yield decode_base64(piece[whole:] + raw[position + CHUNK_OCTETS : end])
            return
        try:
            yield binascii.a2b_base64(piece[:whole])
        except binascii.Error:  # foreign characters shifted the groups of four: take the rest in one go
            yield decode_base64(piece + raw[position + CHUNK_OCTETS : end])
            return
        carried = piece[whole:]
    yield decode_base64(carried)


def never_encoded(text: bytes) -> bool:
    """Whether text labelled base64 shows in its first line that it never was: several characters are foreign to it."""
    line = text[:MAX_FIRST_LINE].lstrip().partition(b"\n")[0].rstrip()
    foreign = len(line) - len(line.translate(None, _FOREIGN_TO_BASE64))
    return foreign >= MIN_FOREIGN and foreign * 20 > len(line)


def _decode_uu(encoded: bytes) -> bytes:
    begin = _UU_BEGIN.search(encoded)
    octets = bytearray()
    for line in encoded[begin.end() if begin else 0 :].splitlines():
        if line.strip() in (b"end", b"`", b""):
            continue
        try:
            octets += binascii.a2b_uu(line)
        except binascii.Error:
            # Some encoders write a line too long; the length in its first octet is right.
            usable = (((line[0] - 32) & 63) * 4 + 5) // 3
            try:
                octets += binascii.a2b_uu(line[:usable])
            except binascii.Error:
                continue  # this line holds nothing to be had
    return bytes(octets)
