"""A TCP proxy of our own in front of PostgreSQL: the network that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal


class Proxy:
    """Forwards connections of a TCP port to ``upstream``; ``cut`` breaks them, ``heal`` lets new ones through."""

    def __init__(self, upstream_socket: str) -> None:
        self._upstream = upstream_socket
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._refusing = False
        self.port = 0

    async def start(self) -> None:
        """Listens on a free port of loopback."""
        self._flowing.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, how: Literal["reset", "silence"]) -> None:
        """``reset``: every connection breaks and none is taken; ``silence``: bytes stop, as when a cable is pulled."""
        if how == "silence":
            self._flowing.clear()
            return
        self._refusing = True
        for writer in list(self._writers):
            writer.transport.abort()

    def redirect(self, upstream_socket: str) -> None:
        """New connections go elsewhere, as when a name in the DNS is changed after a failover."""
        self._upstream = upstream_socket

    def heal(self) -> None:
        """The network is whole again; what was held up flows on."""
        self._refusing = False
        self._flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refusing:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError):
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
            await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while octets := await reader.read(65536):
                await self._flowing.wait()
                writer.write(octets)
                await writer.drain()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()
