"""Canonicalization (RFC 6376 section 3.4): the form of a message that a signature covers.

Mail is changed a little on its way, so signer and verifier first agree on a form. "simple" tolerates almost nothing,
"relaxed" lets header fields be re-folded and white space be changed. The body comes in blocks: each is brought into
form by a few passes that run in C, and between two blocks other threads get their turn, so that a message of 25 MiB
never holds the interpreter for longer than one block takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from clawmail.protocol.headers import HeaderField, unfold

#: octets of the body that are brought into form at a time.
BLOCK_BYTES = 64 * 1024
#: a field value longer than this is compressed block by block.
LONG_VALUE_BYTES = 32 * 1024

# One space is what most runs are already, and not worth a replacement.
_SPACES = re.compile(rb"  +")
_BLANK_LINES_REVERSED = re.compile(rb"(?:\n\r)*+")


def canonical_field(field: HeaderField, algorithm: str) -> bytes:
    """One field in the form of ``algorithm`` ("simple" or "relaxed"), its CRLF included (RFC 6376 section 3.4.1, 2)."""
    if algorithm == "simple":
        return field.raw
    return b"%b:%b\r\n" % (field.name.lower(), _relaxed_value(field.value))


def canonical_signature_field(field: HeaderField, algorithm: str) -> bytes:
    """A signature field as it is signed itself: b= emptied, in form, without its CRLF (RFC 6376 section 3.7)."""
    emptied = _without_signature(field.value)
    if algorithm == "simple":
        before_value = field.raw[: field.raw.index(b":") + 1]
        return before_value + emptied
    return b"%b:%b" % (field.name.lower(), _relaxed_value(emptied))


def _without_signature(value: bytes) -> bytes:
    """RFC 6376 section 3.5: "the value of the b= tag (including all surrounding white space) deleted"."""
    tags = value.split(b";")
    for place, tag in enumerate(tags):
        name, equals, _ = tag.partition(b"=")
        if equals and name.strip(b" \t\r\n") == b"b":
            tags[place] = name + equals
            break
    return b";".join(tags)


def _relaxed_value(value: bytes) -> bytes:
    value = unfold(value)
    if len(value) > LONG_VALUE_BYTES:
        return b"".join(_compressed_blocks(value)).strip(b" ")
    # What ``bytes.split`` takes for white space and RFC 5234 does not call WSP.
    if b"\r" in value or b"\x0b" in value or b"\x0c" in value:
        return _compress(value).strip(b" ")
    return b" ".join(value.split())


def _compress(text: bytes) -> bytes:
    """Every run of WSP made one space."""
    text = text.replace(b"\t", b" ")
    return _SPACES.sub(b" ", text) if b"  " in text else text


def canonical_body(body: bytes | memoryview, algorithm: str) -> Iterator[bytes]:
    """The body in the form of ``algorithm``, in blocks (RFC 6376 section 3.4.3, 3.4.4). Linear in its length."""
    blocks = _compressed_blocks(body) if algorithm == "relaxed" else _blocks(body)
    # Empty lines are held back until something follows them: those at the end are not signed.
    held_back = 0
    empty = True
    for block in blocks:
        blank_lines = _blank_lines_at_end(block)
        content = block[: len(block) - 2 * blank_lines]
        if content:
            yield b"\r\n" * held_back + content if held_back else content
            held_back = 0
            empty = False
        held_back += blank_lines
    # "If there is no trailing CRLF on the message body, a CRLF is added"; only simple makes an empty body one line.
    if algorithm == "simple" or not empty:
        yield b"\r\n"


def _blocks(body: bytes | memoryview) -> Iterator[bytes]:
    """The body cut anywhere but inside a CRLF."""
    start = 0
    while start < len(body):
        end = start + BLOCK_BYTES
        if body[end - 1 : end + 1] == b"\r\n":
            end += 1
        yield bytes(body[start:end])
        start = end


def _compressed_blocks(body: bytes | memoryview) -> Iterator[bytes]:
    """The body with runs of WSP made one space and the WSP at line ends removed."""
    carried = b""
    for start in range(0, len(body), BLOCK_BYTES):
        block = _compress(carried + body[start : start + BLOCK_BYTES]).replace(b" \r\n", b"\r\n")
        # What follows may continue a run of spaces, end the line behind it, or complete a CRLF: at most " \r".
        kept = block.removesuffix(b"\r").removesuffix(b" ")
        carried = block[len(kept) :]
        yield kept
    # The end of the body ends its last line, too.
    yield carried.removesuffix(b" ")


def _blank_lines_at_end(block: bytes) -> int:
    """How many CRLFs the block ends with."""
    tail = block[len(block.rstrip(b"\r\n")) :]
    if tail == b"\r\n" or not tail:
        return len(tail) // 2
    matched = _BLANK_LINES_REVERSED.match(tail[::-1])
    return len(matched[0]) // 2 if matched else 0
