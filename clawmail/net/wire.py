"""The stream under an SMTP client: bytes out, replies in, TLS when told to.

A lean ``asyncio.Protocol`` instead of reader and writer streams: a reply that has arrived is handed over without a
pause, and a command costs one ``write``. Every wait has a time limit. Once the wire is broken it stays so, and every
further call says why.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any

from clawmail.protocol.replies import Reply, ReplyReader

#: octets handed to the transport at a time; the time limit for a block (RFC 5321 section 4.5.3.2.5) is per chunk.
CHUNK_OCTETS = 256 * 1024
#: replies that may wait unread: we never ask for more than this at once.
MAX_UNREAD_REPLIES = 256


class WireBroken(Exception):
    """The connection is of no use any more; the text says why."""


class Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._reader = ReplyReader()
        self._replies: deque[Reply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        #: how long the reply that is waited for may take, in seconds, and until when that is.
        self._patience = self._deadline = 0.0
        #: rings at the deadline or before it, and is then set again: a timer for each reply would cost more than that.
        self._timer: asyncio.TimerHandle | None = None
        self._why_broken = ""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection, or its TLS layer, is up."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Replies, in pieces of any size."""
        self._replies.extend(self._reader.feed(data))
        if self._reader.broken or len(self._replies) > MAX_UNREAD_REPLIES:
            self.abort(self._reader.broken or "replies that nobody asked for")
        self._wake()

    def eof_received(self) -> None:
        """The peer will say no more."""
        self._break("the connection was closed by the host")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._break(f"the connection was lost ({exc})" if exc else "the connection was closed by the host")

    def pause_writing(self) -> None:
        """The transport's buffer is full."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """There is room in it again."""
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    # What the conversation calls.

    @property
    def broken(self) -> bool:
        """Nothing more can be said here."""
        return bool(self._why_broken)

    @property
    def quiet(self) -> bool:
        """Open, and the host has said nothing that was not asked for (an idle host that hangs up often says 421)."""
        return not self.broken and not self._replies and not self._reader.pending

    def write(self, data: bytes) -> None:
        """Sends a command, or several at once (RFC 2920)."""
        if not self._why_broken:
            self.transport.write(data)
        elif not self._replies:
            raise WireBroken(self._why_broken)
        # else: what the host said before it hung up is still to be read, and says more than the broken pipe.

    async def reply(self, timeout: float) -> Reply:
        """The next reply. Raises WireBroken, also after ``timeout`` seconds of silence."""
        if not self._replies:
            await self._wait_for_reply(timeout)
        return self._replies.popleft()

    async def _wait_for_reply(self, timeout: float) -> None:
        loop = asyncio.get_running_loop()
        self._patience, self._deadline = timeout, loop.time() + timeout
        if self._timer is None or self._timer.when() > self._deadline:
            self._set_timer(loop)
        try:
            while not self._replies:
                if self._why_broken:
                    raise WireBroken(self._why_broken)
                self._waiter = loop.create_future()
                await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._deadline, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer, loop = None, asyncio.get_running_loop()
        if self._waiter is None:
            return
        if loop.time() < self._deadline:
            self._set_timer(loop)
        else:
            self.abort(f"no reply within {self._patience:g} s")

    async def send_all(self, data: bytes, timeout: float) -> None:
        """Sends a message's octets; each chunk has ``timeout`` seconds to leave."""
        if len(data) <= CHUNK_OCTETS:
            self.write(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), CHUNK_OCTETS):
            self.write(bytes(view[start : start + CHUNK_OCTETS]))
            try:
                async with asyncio.timeout(timeout):
                    while self._writable is not None and not self._why_broken:
                        await asyncio.shield(self._writable)
            except TimeoutError:
                self.abort(f"the host took no data for {timeout:g} s")
                raise WireBroken(self._why_broken) from None

    async def start_tls(self, context: ssl.SSLContext, server_name: str, timeout: float) -> ssl.SSLObject:
        """Wraps the connection in TLS. Raises WireBroken, ssl.SSLError or OSError when the handshake fails."""
        if not self.quiet:
            # What came in clear text behind the 220 could be anybody's words (CVE-2011-0411).
            self.abort("data between STARTTLS and the handshake")
            raise WireBroken(self._why_broken)
        loop = asyncio.get_running_loop()
        try:
            self.transport = await loop.start_tls(
                self.transport, self, context, server_hostname=server_name, ssl_handshake_timeout=timeout
            )
        except (ssl.SSLError, OSError, TimeoutError) as error:
            self._break(f"TLS handshake: {error}")
            raise
        if self.transport is None:
            self._break("the connection was closed by the host during the TLS handshake")
            raise WireBroken(self._why_broken)
        ssl_object: ssl.SSLObject = self.transport.get_extra_info("ssl_object")
        return ssl_object

    def close(self) -> None:
        """Closes in the orderly way, once what was written has left."""
        self._break("closed here")
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: str) -> None:
        """Drops the connection at once."""
        self._break(why)
        if self.transport is not None:
            self.transport.abort()

    def _break(self, why: str) -> None:
        self._why_broken = self._why_broken or why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.resume_writing()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
