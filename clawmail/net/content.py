"""A message as it goes over the wire: CRLF line ends, dots stuffed, made once however many hosts get it.

A bare CR or LF never leaves: hosts disagree on what it means, and that disagreement is how a second message is smuggled
into the first (RFC 5321 section 2.3.8). Octets are looked at in blocks, so that a thread that makes a large message
ready lets others run in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from clawmail.protocol.headers import to_crlf

#: octets looked at in one go.
BLOCK_OCTETS = 256 * 1024


class Content:
    """The bytes of one message for one set of deliveries."""

    def __init__(self, raw: bytes) -> None:
        """``raw``: header fields and body, as stored."""
        if not all(map(_ends_lines_well, _blocks(raw))):
            raw = to_crlf(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n"))
        self.raw = raw if raw.endswith(b"\r\n") else raw + b"\r\n"

    @property
    def size(self) -> int:
        """Octets, as SIZE counts them: line ends included, stuffed dots and the final dot not (RFC 1870 section 3)."""
        return len(self.raw)

    @cached_property
    def eight_bit(self) -> bool:
        """There are octets beyond ASCII: the host has to offer 8BITMIME (RFC 6152)."""
        return not self.raw.isascii()

    @cached_property
    def stuffed(self) -> bytes:
        """For DATA: with transparent dots (RFC 5321 section 4.5.2) and the final one."""
        first = b"." if self.raw.startswith(b".") else b""
        return b"".join([first, *(block.replace(b"\r\n.", b"\r\n..") for block in _blocks(self.raw)), b".\r\n"])

    def prepared(self) -> Content:
        """Itself, with everything made that sending it takes; for a thread, where the message is large."""
        _ = self.eight_bit, self.stuffed
        return self


def _ends_lines_well(block: bytes) -> bool:
    ends = block.count(b"\r\n")
    return block.count(b"\n") == ends and block.count(b"\r") == ends


def _blocks(raw: bytes) -> Iterator[bytes]:
    """The octets in order, cut before a CRLF, so that neither it nor a dot behind it is torn off."""
    start = 0
    while len(raw) - start > BLOCK_OCTETS:
        end = raw.rfind(b"\r\n", start + 1, start + BLOCK_OCTETS)
        if end < 0:
            end = raw.find(b"\r\n", start + BLOCK_OCTETS - 1)
        if end < 0:
            break
        yield raw[start:end]
        start = end
    yield raw[start:] if start else raw
