"""The real ``Resolver``: asks recursive name servers and remembers what they said (RFC 1035 section 7, RFC 5452).

A remembered answer comes back without a pause. For a new question there is one task, however many callers wait for
it, and a caller that gives up leaves the task to the others. The question goes out by UDP from a socket of its own, so
that a forger has to guess the port as well as the id (RFC 5452 section 9.2), and once more by TCP when the reply does
not fit (RFC 7766). A server that is silent or fails is followed by the next one until the question's time is over.

The AD bit is kept as the server set it. It is worth what the way to the server is worth: it wants a validating
resolver on the same host or behind a link one trusts (RFC 4035 section 4.9.3).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from clawmail.base.tenant import house_task
from clawmail.net.dns_cache import DnsCache, Key
from clawmail.net.dns_wire import (
    MAX_CNAMES,
    Reading,
    is_reply_to,
    is_truncated,
    read_reply,
    rejects_edns,
    write_question,
)
from clawmail.net.nameservers import NameServer, find_nameservers
from clawmail.protocol.dns import MX, TLSA, Address, Answer, Status
from clawmail.protocol.domain_name import labels_of

#: seconds for one question with all its tries, unless the settings say otherwise.
TIMEOUT_SECONDS = 5.0
#: how the tries share that time; later ones are more patient. With more servers than shares, all are equal.
TRY_SHARES = (0.2, 0.3, 0.5)
#: seconds a failure is remembered (RFC 9520 section 3.2: at least one, so that a broken zone is not hammered).
FAILURE_TTL = 1.0
#: datagrams that answer some other question, before this one is moved to TCP: somebody may be guessing.
MAX_STRAY_DATAGRAMS = 16
#: questions on the wire at a time, each with a socket.
MAX_QUESTIONS_ON_WIRE = 256
MAX_CACHE_ENTRIES = 100_000
MAX_CACHE_OCTETS = 64 * 1024 * 1024
#: longer replies are read in a thread: thousands of records keep a core busy for more than 10 ms.
MAX_OCTETS_READ_ON_LOOP = 4_096
MAX_DATAGRAM_OCTETS = 65_535

_NOT_A_NAME: Answer[Any] = Answer(Status.NO_NAME)


class DnsResolver:
    """See ``protocol.dns.Resolver`` for the questions. Belongs to one event loop; ``close`` it there."""

    def __init__(
        self,
        nameservers: Sequence[str] = (),
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
        max_entries: int = MAX_CACHE_ENTRIES,
        max_octets: int = MAX_CACHE_OCTETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``nameservers`` are "host", "host:port" or "[v6]:port"; none at all means those of the system.

        Raises ``ValueError`` for one that is no such thing: it comes from the settings.
        """
        self._servers = find_nameservers(nameservers)
        shares = TRY_SHARES if len(self._servers) <= len(TRY_SHARES) else (1 / len(self._servers),) * len(self._servers)
        self._timeout = timeout_seconds
        self._waits = tuple([timeout_seconds * share for share in shares])
        self._clock = clock
        self._cache = DnsCache(max_entries=max_entries, max_octets=max_octets)
        self._asking: dict[Key, asyncio.Task[Answer[Any]]] = {}
        self._on_wire = asyncio.Semaphore(MAX_QUESTIONS_ON_WIRE)
        self._closed = False

    async def txt(self, name: str) -> Answer[bytes]:
        """See ``Resolver.txt``."""
        return await self._ask("TXT", name)

    async def a(self, name: str) -> Answer[IPv4Address]:
        """See ``Resolver.a``."""
        return await self._ask("A", name)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """See ``Resolver.aaaa``."""
        return await self._ask("AAAA", name)

    async def mx(self, name: str) -> Answer[MX]:
        """See ``Resolver.mx``."""
        return await self._ask("MX", name)

    async def ptr(self, address: Address) -> Answer[str]:
        """See ``Resolver.ptr``."""
        return await self._ask("PTR", address.reverse_pointer)

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """See ``Resolver.tlsa``."""
        return await self._ask("TLSA", name)

    async def ns(self, name: str) -> Answer[str]:
        """See ``Resolver.ns``."""
        return await self._ask("NS", name)

    async def close(self) -> None:
        """Give up what is still being asked (it is answered FAILURE) and ask nothing more."""
        self._closed = True
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- one question, however many callers -----------------------------------------------------------------------

    async def _ask(self, kind: str, name: str) -> Answer[Any]:
        key = (kind, name.lower().removesuffix("."))
        known = self._cache.get(key, self._clock())
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            if not labels_of(key[1]):
                return _NOT_A_NAME
            if self._closed:
                return _failure("the resolver is closed")
            task = house_task(self._settle(key), f"dns {kind}")
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # Unlike ``await task``, this leaves the task alone when the one who waits is cancelled.
        await asyncio.wait((task,))
        return _failure("the resolver was closed") if task.cancelled() else task.result()

    async def _settle(self, key: Key) -> Answer[Any]:
        """Find the answer within the time of a question, and remember it."""
        try:
            async with asyncio.timeout(self._timeout), self._on_wire:
                answer = await self._follow(*key)
        except TimeoutError:
            answer = _failure(f"no name server answered within {self._timeout:g} s")
        lifetime = FAILURE_TTL if answer.failed else answer.ttl
        if lifetime > 0:
            self._cache.put(key, answer, expires=self._clock() + lifetime, size=_footprint(answer))
        return answer

    async def _follow(self, kind: str, name: str) -> Answer[Any]:
        """Ask, and ask on for the target of a CNAME that the server left unfinished."""
        ttl, authenticated = float("inf"), True
        for _ in range(MAX_CNAMES):
            answer, unfinished = await self._ask_servers(kind, name)
            ttl, authenticated = min(ttl, answer.ttl), authenticated and answer.authenticated
            if unfinished is None:
                return Answer(
                    answer.status, answer.records, authenticated, ttl, answer.problem, answer.canonical_name or name
                )
            name = unfinished
        return _failure(f"a chain of more than {MAX_CNAMES} CNAMEs")

    async def _ask_servers(self, kind: str, name: str) -> Reading:
        """The first good reply of any server; a failing server gets no second try, a silent one may."""
        candidates = list(self._servers)
        problem = ""
        for wait in self._waits:
            server = candidates[0]
            try:
                async with asyncio.timeout(wait):
                    reading = await self._ask_server(server, kind, name)
            except TimeoutError:
                problem = f"{server.text} does not answer"
                candidates.append(candidates.pop(0))
                continue
            except (OSError, EOFError) as error:
                reading = Reading(_failure(f"{server.text} cannot be reached: {error}"))
            if not reading.answer.failed:
                # Whoever answered is asked first from now on.
                self._servers = (server, *[other for other in self._servers if other is not server])
                return reading
            problem = reading.answer.problem
            candidates.pop(0)
            if not candidates:
                break
        return Reading(_failure(problem))

    async def _ask_server(self, server: NameServer, kind: str, name: str) -> Reading:
        labels = labels_of(name)
        if not labels:  # the target of a CNAME need not be a name that can be asked for
            return Reading(_NOT_A_NAME)
        for edns in (True, False):
            question = write_question(secrets.randbits(16), labels, kind, edns=edns)
            reply = await _by_udp(server, question)
            # RFC 6891 section 6.2.2: a server from before EDNS rejects the OPT record; ask once more without.
            if reply is None or not (edns and rejects_edns(reply)):
                break
        if reply is None or is_truncated(reply):
            reply = await _by_tcp(server, question)
        if len(reply) <= MAX_OCTETS_READ_ON_LOOP:
            return read_reply(reply, name, kind)
        return await asyncio.to_thread(read_reply, reply, name, kind)


async def _by_udp(server: NameServer, question: bytes) -> bytes | None:
    """One question, one socket; None when too many replies were not to it. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    with socket.socket(server.family, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect(server.address)
        udp.send(question)
        for _ in range(MAX_STRAY_DATAGRAMS):
            reply = await loop.sock_recv(udp, MAX_DATAGRAM_OCTETS)
            if is_reply_to(question, reply):
                return reply
    return None


async def _by_tcp(server: NameServer, question: bytes) -> bytes:
    """The same over TCP, behind two octets of length (RFC 1035 section 4.2.2). Raises ``OSError``, ``EOFError``."""
    loop = asyncio.get_running_loop()
    with socket.socket(server.family, socket.SOCK_STREAM) as tcp:
        tcp.setblocking(False)
        await loop.sock_connect(tcp, server.address)
        await loop.sock_sendall(tcp, len(question).to_bytes(2, "big") + question)
        size = int.from_bytes(await _read_exactly(tcp, 2), "big")
        reply = await _read_exactly(tcp, size)
    if not is_reply_to(question, reply):
        raise EOFError("a reply to another question")
    return reply


async def _read_exactly(tcp: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < size:
        block = await loop.sock_recv(tcp, size - len(received))
        if not block:
            raise EOFError("the connection ended early")
        received += block
    return bytes(received)


def _failure(problem: str) -> Answer[Any]:
    return Answer(Status.FAILURE, problem=problem)


def _footprint(answer: Answer[Any]) -> int:
    """About how many octets an answer takes in memory."""
    return 600 + sum([200 + (len(record) if isinstance(record, bytes) else 0) for record in answer.records])
