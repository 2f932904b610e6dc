"""A real DNS server on loopback, UDP and TCP on one port, that a test fills and that can be told to misbehave.

    async with DnsServer({"example.org": {"TXT": ["v=spf1 -all"], "MX": ["10 mx.example.org"]}}) as dns:
        resolver = DnsResolver([dns.nameserver], timeout_seconds=2)
        dns.set("example.org", "TXT", SERVFAIL)
        dns.fault("example.org", Fault(delay=0.2))

The zone literal is that of ``tests.support.zones``; what is answered is in ``tests.support.dns_zone``.
``DnsServerThread`` is the same server with a loop of its own, for tests whose other partner is a process or that have
no loop running.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.support.dns_zone import SILENCE, Fault, ServedZone
from tests.support.zones import SERVFAIL, Records, Zone

__all__ = ["SERVFAIL", "SILENCE", "DnsServer", "DnsServerThread", "Fault"]

T = TypeVar("T")


class DnsServer(ServedZone):
    """See the module's text. ``address`` is (host, port) once started; ``set``, ``fault``, ``asked`` … are those of
    ``ServedZone``."""

    def __init__(
        self, zone: Zone | None = None, *, authenticated: bool = False, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        super().__init__(zone, authenticated=authenticated)
        self.address = (host, port)
        #: where each datagram came from.
        self.peers: list[tuple[str, int]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port of both sockets."""
        return self.address[1]

    @property
    def nameserver(self) -> str:
        """``host:port`` as settings and command lines take it."""
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer_datagram(self, wire: bytes, peer: Any) -> None:
        self.peers.append(peer[:2])
        for reply in await self.replies(wire, over_tcp=False):
            if self._udp is not None:
                self._udp.sendto(reply, peer)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn(self._answer_stream(reader, writer))

    async def _answer_stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(2), "big")
                for reply in await self.replies(await reader.readexactly(size), over_tcp=True):
                    writer.write(len(reply).to_bytes(2, "big") + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def start(self) -> None:
        """Open both sockets on one port, a free one unless it was named."""
        loop, (host, wanted) = asyncio.get_running_loop(), self.address
        for _ in range(20):
            tcp = await asyncio.start_server(self._accept, host, wanted)
            port = tcp.sockets[0].getsockname()[1]
            try:
                udp, _protocol = await loop.create_datagram_endpoint(lambda: _Udp(self), (host, port))
            except OSError:  # the UDP side of that port is taken: try another pair
                tcp.close()
                continue
            self._tcp, self._udp, self.address = tcp, udp, (host, port)
            return
        raise OSError("no port is free for both UDP and TCP")

    async def stop(self) -> None:
        """Close both sockets and forget what is still being answered."""
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self.stop()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server._spawn(self._server._answer_datagram(data, addr))


class DnsServerThread:
    """A ``DnsServer`` in a thread with a loop of its own; every method may be called from any thread.

    ``with DnsServerThread(zone) as dns: dns.address``. ``asked``, ``ttl``, ``authenticated`` … are at ``server``.
    """

    def __init__(
        self, zone: Zone | None = None, *, authenticated: bool = False, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.server = DnsServer(zone, authenticated=authenticated, host=host, port=port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="dns-server", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """(host, port), once started."""
        return self.server.address

    @property
    def nameserver(self) -> str:
        """``host:port``, once started."""
        return self.server.nameserver

    @property
    def asked(self) -> list[tuple[str, str]]:
        """A copy of every question so far as (type, name)."""
        return list(self.server.asked)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    def start(self) -> Self:
        """Start the thread and open the sockets; returns when questions are answered."""
        self._thread.start()
        self._run(self.server.start())
        return self

    def stop(self) -> None:
        """Close the sockets and end the thread."""
        self._run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def set(self, name: str, kind: str, values: Records) -> None:
        """See ``DnsServer.set``; in force when it returns."""

        async def change() -> None:
            self.server.set(name, kind, values)

        self._run(change())

    def remove(self, name: str, kind: str | None = None) -> None:
        """See ``DnsServer.remove``; in force when it returns."""

        async def change() -> None:
            self.server.remove(name, kind)

        self._run(change())

    def fault(self, name: str, fault: Fault | None) -> None:
        """See ``DnsServer.fault``; in force when it returns."""

        async def change() -> None:
            self.server.fault(name, fault)

        self._run(change())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        self.stop()
