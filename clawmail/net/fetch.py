"""HTTP to the outside: one address for all fetches, and the rules that keep strangers from steering them.

A name is resolved by our own resolver and only public addresses are dialled, so that no DNS record can lead a request
into the private network or to a metadata service, not even by changing between check and use. Redirects are not
followed, cookies not kept. Size and time are limited.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clawmail.net.addresses import is_public
from clawmail.net.mx import find_addresses
from clawmail.protocol.dns import Resolver

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

#: seconds for a whole fetch, unless the caller says otherwise.
TIMEOUT_SECONDS = 30.0
MAX_CONNECTIONS = 50
#: octets of the answer to a POST that are read, so that its connection can serve again; nobody looks at them.
DISCARDED_OCTETS = 16 * 1024
#: seconds that they are waited for.
DISCARD_SECONDS = 1.0
USER_AGENT = "Clawmail"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer, or why there is none."""

    #: HTTP status; 0 when no answer came.
    status: int
    body: bytes = b""
    #: lower case, without parameters.
    content_type: str = ""
    #: set when ``status`` is 0.
    problem: str = ""
    #: the problem is the server's certificate.
    bad_certificate: bool = False
    #: Retry-After of the answer to a POST, as it stood there.
    retry_after: str = ""


class Fetcher:
    """Fetches over HTTP. Belongs to one event loop; ``close`` it there."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        allow_private: bool = False,
        context: ssl.SSLContext | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """``context``: what server certificates are held against, the system's authorities unless given."""
        self._max_connections = max_connections
        self._resolver = resolver
        self._allow_private = allow_private
        self._context = context
        self._session: ClientSession | None = None

    async def get(self, url: str, *, max_bytes: int, timeout: float = TIMEOUT_SECONDS) -> Fetched:
        """GET ``url``; the body up to ``max_bytes``, more is a problem. Never raises for what the other side does."""

        async def whole(answer: ClientResponse) -> Fetched:
            body = await answer.content.read(max_bytes + 1)
            while len(body) <= max_bytes and (more := await answer.content.read(max_bytes + 1 - len(body))):
                body += more
            if len(body) > max_bytes:
                return Fetched(0, problem=f"the answer is larger than {max_bytes} bytes")
            return Fetched(answer.status, body, answer.content_type.lower())

        return await self._fetch("GET", url, whole, timeout=timeout)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], *, timeout: float) -> Fetched:
        """POST ``body`` to ``url``; of the answer the status alone is kept. Never raises for what the other does."""

        async def status(answer: ClientResponse) -> Fetched:
            # A connection whose answer was read to its end serves again; how it was worded is nobody's concern.
            with contextlib.suppress(OSError, TimeoutError, ValueError):
                async with asyncio.timeout(DISCARD_SECONDS):
                    await answer.content.read(DISCARDED_OCTETS)
            return Fetched(answer.status, retry_after=answer.headers.get("Retry-After", ""))

        return await self._fetch("POST", url, status, timeout=timeout, data=body, headers=headers, unpack=False)

    async def _fetch(
        self,
        method: str,
        url: str,
        read: Callable[[ClientResponse], Awaitable[Fetched]],
        *,
        timeout: float,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        unpack: bool = True,
    ) -> Fetched:
        import aiohttp  # here, because a command that fetches nothing should not wait for the import

        refusal = self.refusal(url)
        if refusal:
            return Fetched(0, problem=refusal)
        try:
            async with self._open().request(
                method,
                url,
                data=data,
                headers=headers,
                allow_redirects=False,
                auto_decompress=unpack,  # what nobody looks at need not be blown up
                timeout=aiohttp.ClientTimeout(total=timeout),
            ) as answer:
                return await read(answer)
        except aiohttp.ClientConnectorCertificateError as error:
            why = getattr(error.certificate_error, "verify_message", "") or str(error.certificate_error)
            return Fetched(0, problem=f"the certificate of {error.host} is not accepted: {why}", bad_certificate=True)
        except aiohttp.ClientConnectorError as error:
            return Fetched(0, problem=str(error.os_error))  # what went wrong, without aiohttp's view of it
        except TimeoutError:
            return Fetched(0, problem=f"no answer within {timeout:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Fetched(0, problem=str(error) or type(error).__name__)

    async def close(self) -> None:
        """Closes what is open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def refusal(self, url: str) -> str:
        """Why ``url`` is not fetched: a literal address skips the resolver, so it is judged here.

        So does what only looks like one: the C library takes ``127.1`` and ``2130706433`` for loopback.
        """
        host = ""
        try:
            host = urlsplit(url).hostname or ""
            address = ip_address(host)
        except ValueError:
            return f"{host} is not an address" if host.replace(".", "").isdigit() else ""
        return "" if self._allow_private or is_public(address) else f"{host} is not a public address"

    def _open(self) -> ClientSession:
        if self._session is None:
            self._session = self._make()
        return self._session

    def _make(self) -> ClientSession:
        import aiohttp
        from aiohttp.abc import AbstractResolver, ResolveResult

        resolver, allow_private = self._resolver, self._allow_private

        class PublicOnly(AbstractResolver):
            """Our resolver in aiohttp's words, less what is not public."""

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
            ) -> list[ResolveResult]:
                found = await find_addresses(resolver, host)
                allowed = [one for one in found.addresses if allow_private or is_public(one)]
                if not allowed:
                    raise OSError(str(found.refusal) if found.refusal else f"{host} has no public address")
                return [
                    ResolveResult(
                        hostname=host,
                        host=str(one),
                        port=port,
                        family=socket.AF_INET6 if one.version == 6 else socket.AF_INET,
                        proto=0,
                        flags=socket.AI_NUMERICHOST,
                    )
                    for one in allowed
                ]

            async def close(self) -> None:
                """Nothing of it is open."""

        connector = aiohttp.TCPConnector(
            resolver=PublicOnly(), use_dns_cache=False, limit=self._max_connections, ssl=self._context or True
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # what one tenant's host sets is not shown to another's
            headers={"User-Agent": USER_AGENT},
            trust_env=False,
        )
