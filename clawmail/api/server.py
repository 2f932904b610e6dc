"""The HTTP entrance: listeners on aiohttp's low-level server, each request handed to the pipeline.

aiohttp's ``Application`` (router, middlewares, signals) is left out: one table and one pipeline do its work in less
time per request. A client that hangs up does not stop its handler: mail that is being sent is sent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from clawmail.api.crowd import REFUSAL, Crowd
from clawmail.api.errors import to_response
from clawmail.api.pipeline import COMMON_HEADERS, Pipeline
from clawmail.api.routing import Route, Table
from clawmail.api.services import Services
from clawmail.base.errors import ClawmailError, Invalid
from clawmail.base.log import logger
from clawmail.base.settings import Settings
from clawmail.config import cannot_listen, parse_listener

#: seconds an idle connection is kept for its next request.
KEEP_ALIVE_SECONDS = 75.0
#: seconds that the rest of a body nobody wants is read and thrown away, so that its sender sees the answer.
LINGER_SECONDS = 10.0
#: connections of one process; beyond that new ones are cut, so that descriptors are left for the mail.
MAX_CONNECTIONS = 10_000
#: octets of its answer that a client has to take in so many seconds, or the connection is cut.
MIN_BYTES_READ = 32 * 1024
UNREAD_SECONDS = 60.0
#: connections waiting to be accepted.
BACKLOG = 1024

log = logger("api")


class _Connection(RequestHandler):
    """One client's connection; what is no HTTP is answered in JSON like everything else."""

    __slots__ = ("_crowd", "_left", "_look", "_network")

    def __init__(self, manager: web.Server, crowd: Crowd, **options: Any) -> None:
        super().__init__(manager, **options)
        self._crowd = crowd
        #: what this connection is counted for; "" for nothing.
        self._network = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        super().connection_made(transport)
        if self._manager is None or self.transport is None:
            return
        peer = transport.get_extra_info("peername")
        if len(self._manager.connections) > MAX_CONNECTIONS or not peer:
            self.transport.abort()
        elif (network := self._crowd.enter(peer[0])) is not None:
            self._network = network
        else:
            self.transport.write(REFUSAL)
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        if self._network:
            self._crowd.leave(self._network)
            self._network = ""
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes no more for now; whoever never goes on would keep his answer in memory for ever."""
        super().pause_writing()
        if self.transport is not None:
            self._left = self.transport.get_write_buffer_size()
            self._look = self._loop.call_later(UNREAD_SECONDS, self._cut_if_unread)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._look.cancel()

    def _cut_if_unread(self) -> None:
        if self.transport is None or not self.writing_paused:
            return
        left, self._left = self._left, self.transport.get_write_buffer_size()
        if left - self._left < MIN_BYTES_READ:
            self.transport.abort()
        else:
            self._look = self._loop.call_later(UNREAD_SECONDS, self._cut_if_unread)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to a request that the HTTP parser refused, after which the connection is closed."""
        if isinstance(exc, ConnectionError):
            raise exc  # the client has hung up; aiohttp ends the connection without a word
        if request.writer.output_size > 0:
            raise ConnectionError("the answer had begun when it failed")
        error: Exception = Invalid("This is not an HTTP request that can be read", code="bad_request")
        if status >= 500:
            error = exc if isinstance(exc, Exception) else ClawmailError("Internal server error", code="internal_error")
        response = to_response(error, where="connection")
        response.headers.update(COMMON_HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    """Makes a ``_Connection`` for each client."""

    def __init__(self, pipeline: Pipeline, crowd: Crowd) -> None:
        super().__init__(pipeline)
        self._crowd = crowd

    def __call__(self) -> RequestHandler:
        return _Connection(
            self,
            self._crowd,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            access_log=None,
            logger=logging.getLogger("clawmail.http"),
            auto_decompress=False,  # reading.gunzip does it within the limit
        )


class ApiServer:
    """Serves ``routes`` on the addresses of ``settings.api.listen``."""

    def __init__(self, settings: Settings, services: Services, routes: Iterable[Route]) -> None:
        self._listen = settings.api.listen
        self._reuse_port = settings.server.workers > 1
        self._pipeline = Pipeline(Table(routes), services)
        self._crowd = Crowd(settings)
        self._server: _Server | None = None
        self._listeners: list[asyncio.Server] = []

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Host and port of every listener, with the ports that port 0 became."""
        return [sock.getsockname()[:2] for listener in self._listeners for sock in listener.sockets]

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._server.connections) if self._server is not None else 0

    async def start(self) -> None:
        """Opens the listeners. Raises OSError, with none left open, if one of the addresses is taken."""
        loop = asyncio.get_running_loop()
        self._server = _Server(self._pipeline, self._crowd)
        try:
            for listener in self._listen:
                host, port = parse_listener(listener)
                self._listeners.append(
                    await loop.create_server(
                        self._server, host, port, backlog=BACKLOG, reuse_port=self._reuse_port or None
                    )
                )
        except OSError as error:
            await self.stop(0)
            raise cannot_listen(error, "api.listen", listener) from error
        log.info("listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def stop(self, grace: float) -> None:
        """Accepts no more, lets requests in flight end within ``grace`` seconds, then closes every connection."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        if self._server is not None:
            await asyncio.sleep(0)  # requests that have just arrived begin before idle connections are closed
            self._server.pre_shutdown()
            await self._server.shutdown(grace)
            self._server = None
