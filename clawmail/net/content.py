"""A message as it goes over the wire: CRLF line ends, dots stuffed, made once however many hosts get it.

A bare CR or LF never leaves: hosts disagree on what it means, and that disagreement is how a second message is smuggled
into the first (RFC 5321 section 2.3.8).
"""

from __future__ import annotations

from functools import cached_property

from clawmail.protocol.headers import to_crlf


class Content:
    """The bytes of one message for one set of deliveries."""

    def __init__(self, raw: bytes) -> None:
        """``raw``: header fields and body, as stored."""
        ends = raw.count(b"\r\n")
        if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
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
        stuffed = self.raw.replace(b"\r\n.", b"\r\n..") if b"\r\n." in self.raw else self.raw
        return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"
