"""Message octets on their way in: where they end, whose dots go, and what they may not hold. No I/O.

DATA ends with a line that is a lone dot, and a client doubles the dot of every line that begins with one (RFC 5321
section 4.5.2). Only CRLF ends a line: a server that also took a bare LF or CR for a line end, where another host on the
way did not, would let one message smuggle in another. BDAT (RFC 3030) counts octets instead.

The cost is a few searches over each block, whatever the number of lines, and memory holds at most the largest message
allowed: from the first octet too many the rest is counted and forgotten, because its end has to be found all the same.
"""

from __future__ import annotations

import enum

END = b"\r\n.\r\n"
#: a line that begins with a dot.
DOT = b"\r\n."
#: how a block may end so that END, or a dot to be taken off, might still come: the longest first.
BEGINNINGS = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
#: octets of the blocks in which a message is kept until it is whole.
BLOCK_OCTETS = 512 * 1024


class Problem(enum.Enum):
    """Why a message cannot be kept: reply code, enhanced code (RFC 3463) and words."""

    TOO_BIG = (552, "5.3.4", "the message is larger than the limit")
    BARE_NEWLINE = (550, "5.6.0", "the message has a CR or LF that is not part of a CRLF (RFC 5321 section 2.3.8)")
    NO_ROOM = (452, "4.3.1", "too many messages are on their way in, try again later")


class Collector:
    """Keeps a message's octets, or the reason why they are not kept."""

    __slots__ = ("_blocks", "_held_cr", "_last", "_max_bytes", "_normalise", "problem", "size")

    def __init__(self, max_bytes: int, *, normalise: bool = False) -> None:
        """``max_bytes`` is inclusive. ``normalise`` makes a bare CR or LF a CRLF instead of a problem."""
        self._max_bytes = max_bytes
        self._normalise = normalise
        #: in blocks: one buffer that grows is moved, whole, again and again, 10 ms for a large message each time.
        self._blocks: list[bytes] = []
        self._last = bytearray()
        self._held_cr = False
        #: octets kept so far.
        self.size = 0
        self.problem: Problem | None = None

    def add(self, octets: bytes) -> None:
        """More of the message, as it will be kept. A CR at the end waits for its LF."""
        if self.problem is not None:
            return
        if self._held_cr:
            octets = b"\r" + octets
        self._held_cr = octets.endswith(b"\r")
        self._keep(octets[:-1] if self._held_cr else octets)

    def _keep(self, octets: bytes) -> None:
        pairs = octets.count(b"\r\n")
        if octets.count(b"\n") != pairs or octets.count(b"\r") != pairs:
            if not self._normalise:
                self.refuse(Problem.BARE_NEWLINE)
                return
            octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        if self.size + len(octets) > self._max_bytes:
            self.refuse(Problem.TOO_BIG)
            return
        self.size += len(octets)
        self._last += octets
        if len(self._last) >= BLOCK_OCTETS:
            self._blocks.append(bytes(self._last))
            self._last.clear()

    def refuse(self, problem: Problem) -> None:
        """Nothing is kept from here on. The first problem stands."""
        self._forget()
        self.problem = self.problem or problem

    def finish(self) -> bytes:
        """The whole message; b"" if there is a problem. Call once, after its end.

        For a large one it takes 15 ms, in which ``bytes.join``, of bytes alone, lets go of the interpreter: call it in
        a thread.
        """
        if self._held_cr and self.problem is None:
            self._held_cr = False
            self._keep(b"\r")
        whole = b"".join((*self._blocks, bytes(self._last)))
        self._forget()
        return whole

    def _forget(self) -> None:
        self._blocks, self._last = [], bytearray()
        self.size = 0


class DotReader:
    """Reads DATA out of blocks cut anywhere: finds its end and takes the dots off."""

    __slots__ = ("_collector", "_held", "_started")

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        # As if a line had ended just before: the first line may be the lone dot.
        self._held = b"\r\n"
        self._started = False

    def feed(self, block: bytes) -> bytes | None:
        """Takes a block. None: the end has not come. Otherwise what follows it, not part of the message."""
        block = self._held + block
        dot = block.find(DOT)
        end = block.find(END, dot) if dot >= 0 else -1
        if end >= 0:
            self._pass_on(block[: end + 2], dotted=dot < end)
            return block[end + len(END) :]
        self._held = next((beginning for beginning in BEGINNINGS if block.endswith(beginning)), b"")
        self._pass_on(block[: len(block) - len(self._held)], dotted=dot >= 0)
        return None

    def _pass_on(self, lines: bytes, *, dotted: bool) -> None:
        if dotted:
            # Every dot behind a CRLF was doubled or added by the client (RFC 5321 section 4.5.2).
            lines = lines.replace(DOT, b"\r\n")
        if lines and not self._started:
            self._started = True
            lines = lines[2:]
        self._collector.add(lines)
