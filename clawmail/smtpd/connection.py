"""One client's connection: octets in, reply lines out, with a bound on everything in between.

The protocol class is aiosmtpd's ``SMTP``: its place in asyncio's streams, its flow control and its ``push`` stay. What
is overridden is what would cost every message dearly or would not be safe on the open internet:

* the constructor, which looks through the class by reflection (95 µs) for each connection;
* the ``StreamReader`` and the loop that reads command by command and DATA line by line: here input is one bounded
  buffer, out of which a command is cut by one search and a message is taken in blocks as they come;
* one write for each reply: here replies gather until the client is waited for (RFC 2920 section 3.2);
* a timer for each command: here one timer for each connection moves along with its deadline;
* end of input, which cancels the session: here what came before it is still answered, as a half-closed client expects.
"""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import struct
import termios
from collections.abc import Callable
from typing import Any, AnyStr

from aiosmtpd.smtp import SMTP

from clawmail.smtpd.upgrade import put_under

#: octets of input that wait unread before the client is made to pause.
HIGH_WATER = 256 * 1024
#: octets of a message that are taken at a time: what a search over them takes, everybody else waits.
BLOCK_OCTETS = 128 * 1024
#: octets of a command line with its CRLF (RFC 5321 section 4.5.3.1.4), and of those whose parameters need more.
COMMAND_BYTES = 512
LONG_COMMAND_BYTES = 2048
LONG_VERBS = frozenset({b"MAIL", b"RCPT", b"AUTH"})
#: octets of replies that are gathered before they are written anyway.
REPLIES_BEFORE_WRITING = 16 * 1024
#: seconds for which a client that sends on may leave its replies unread.
WRITING_SECONDS = 60.0
#: seconds and octets for which a client is listened to after its last reply, so that the reply reaches it.
LINGER_SECONDS = 1.0
LINGER_BYTES = 1024 * 1024


class Disconnected(Exception):
    """The client is gone, or has said all it had to say."""


class TimedOut(Exception):
    """The client was waited for too long."""


class LineTooLong(Exception):
    """A line has outgrown its limit; ``start`` is how it begins."""

    def __init__(self, start: bytes) -> None:
        super().__init__("line too long")
        self.start = start


class Connection(SMTP):
    """Reads lines, blocks and counts of octets, and writes replies. All reading is done by one task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, begin: Callable[[Any], None]) -> None:
        """``begin`` is called with the connection once it is made."""
        # The grandparent's constructor: see the module's first paragraph.
        asyncio.StreamReaderProtocol.__init__(self, None, loop=loop)  # type: ignore[arg-type]  # no reader: see above
        self.loop = loop
        self._begin = begin
        self.transport: Any = None
        self._input = bytearray()
        self._replies: list[str] = []
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._ended = False
        self._reading = True
        self._congested = False
        #: version and cipher, "TLSv1.3 TLS_AES_256_GCM_SHA384"; "" outside TLS.
        self.tls = ""

    # --- called by the loop ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected."""
        self.transport = transport
        self._begin(self)

    def data_received(self, data: bytes) -> None:
        """Some input; the client is paused when the session does not keep up."""
        self._input += data
        if len(self._input) >= HIGH_WATER and self._reading:
            self._reading = False
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """No more input. Outside TLS the connection stays open for the answers to what has come."""
        self._ended = True
        self._wake()
        return not self.tls

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody is there any more. A message that is being stored is stored all the same."""
        self._ended = True
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def pause_writing(self) -> None:
        """The client takes no more of our replies for now."""
        self._congested = True

    def resume_writing(self) -> None:
        """It does again."""
        self._congested = False
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- input -------------------------------------------------------------------------------------------------

    @property
    def input_waiting(self) -> bool:
        """Whether the client has sent more than was read, be it still with the kernel (outside TLS)."""
        if self._input:
            return True
        if self.tls or self.transport is None:
            return False
        waiting = bytearray(4)
        try:
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.FIONREAD, waiting)
        except OSError:
            return False
        return bool(struct.unpack("i", waiting)[0])

    def drop_input(self) -> None:
        """Forgets what was received and not read."""
        self._input.clear()

    def line_at_hand(self) -> bool:
        """Whether a line can be read without waiting."""
        return b"\n" in self._input

    async def read_line(self, deadline: float, limit: int = COMMAND_BYTES) -> bytes:
        """One line with its end, LF or CRLF, of at most ``limit`` octets; a command of LONG_VERBS may be longer.

        Raises LineTooLong, TimedOut, Disconnected.
        """
        searched = 0
        while (end := self._input.find(b"\n", searched)) < 0:
            searched = len(self._input)
            if searched >= limit and searched >= self._line_limit(limit):
                raise LineTooLong(bytes(self._input[:limit]))
            await self.wait_for_input(deadline)
        if end >= limit and end >= self._line_limit(limit):
            raise LineTooLong(bytes(self._input[:limit]))
        line = bytes(self._input[: end + 1])
        del self._input[: end + 1]
        return line

    def _line_limit(self, limit: int) -> int:
        return LONG_COMMAND_BYTES if bytes(self._input[:4]).upper() in LONG_VERBS else limit

    async def read_block(self, deadline: float, limit: int = BLOCK_OCTETS) -> bytes:
        """What has come, at least one octet, at most ``limit``."""
        while not self._input:
            await self.wait_for_input(deadline)
        block = bytes(self._input if len(self._input) <= limit else self._input[:limit])
        del self._input[: len(block)]
        return block

    def unread(self, rest: bytes) -> None:
        """Puts back what was read beyond the end."""
        self._input[:0] = rest

    async def wait_for_input(self, deadline: float) -> None:
        """Until there is more input. ``deadline`` is in the loop's time. Raises TimedOut, Disconnected."""
        await self.flush(deadline)
        if self._ended:
            raise Disconnected
        if not self._reading:
            self._reading = True
            self.transport.resume_reading()
        await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        """Until something happens on the connection."""
        self._waiter = self.loop.create_future()
        self._arm(deadline)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(self, deadline: float) -> None:
        """Sees to it that a wait ends. The timer is set anew only when it would come too late, or has come."""
        self._deadline = deadline
        if self._timer is None or self._timer.when() > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_at(deadline, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._due)
        else:
            self.stop_waiting(TimedOut())

    @property
    def waiting(self) -> bool:
        """Whether the session has nothing to do until the client sends more."""
        return self._waiter is not None and not self._waiter.done()

    def stop_waiting(self, reason: Exception) -> None:
        """If the client is being waited for, that wait ends with ``reason``."""
        if self._waiter is not None and self.waiting:
            self._waiter.set_exception(reason)

    # --- output ------------------------------------------------------------------------------------------------

    async def push(self, status: AnyStr) -> None:
        """Adds a reply (lines without their last CRLF); it is written with the others when the client is waited for."""
        self._replies.append(status if isinstance(status, str) else status.decode("utf-8", "replace"))
        if len(self._replies) * 64 > REPLIES_BEFORE_WRITING:
            await self.flush(self.loop.time() + WRITING_SECONDS)

    async def flush(self, deadline: float) -> None:
        """Writes the replies gathered, and waits while the client takes none. Raises TimedOut."""
        if self._replies and self.transport is not None:
            self.transport.write(("\r\n".join(self._replies) + "\r\n").encode("utf-8", "replace"))
        self._replies.clear()
        while self._congested and self.transport is not None:
            await self._wait(deadline)

    async def secure(self, context: ssl.SSLContext) -> None:
        """Puts TLS under the conversation; input that waits is the handshake's. Raises OSError, Disconnected."""
        if self.transport is None:
            raise Disconnected
        # From here on nothing may come to us that is TLS's; it resumes reading when it is ready.
        self.transport.pause_reading()
        self._reading = True
        ahead = bytes(self._input)
        self._input.clear()
        self.transport, self.tls = await put_under(self.loop, self.transport, self, context, ahead)

    async def hang_up(self, last: str) -> None:
        """Says the last reply and closes; raises nothing, because there is nobody left to tell.

        Closing on unread input would make the kernel send a reset, which may overtake our last reply: so the client is
        told that we are done and is listened to for a moment more, without taking in a word.
        """
        if self.transport is None:
            return
        deadline = self.loop.time() + LINGER_SECONDS
        swallowed = 0
        self._replies.append(last)
        try:
            waiting = self.input_waiting
            await self.flush(deadline)
            if waiting and not self.tls and self.transport is not None:
                self.transport.write_eof()
                while swallowed < LINGER_BYTES:
                    swallowed += len(await self.read_block(deadline))
        except (TimedOut, Disconnected, OSError):
            pass
        finally:
            if self.transport is not None:
                self.transport.close()

    def abort_unless_closing(self) -> None:
        """Ends the connection at once, unless it is closing in peace."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()
