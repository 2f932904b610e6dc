"""A receiver of webhooks on loopback: keeps what it is told, checks signatures by itself, answers as it is asked to.

Its check of a signature is written from the specification with nothing but the standard library, as a customer would.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.house import PATIENCE_SECONDS


@dataclass(frozen=True)
class Told:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def id(self) -> str:
        """The id of the event it is about."""
        return self.headers["webhook-id"]

    def signed_with(self, secret: str) -> bool:
        """Whether one of its signatures was made with ``secret``."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        return wanted in self.headers["webhook-signature"].split(" ")


@dataclass
class WebhookSink:
    """``async with WebhookSink() as sink``: answers at ``sink.url(path)``."""

    #: path → the statuses it answers, one after the other; the last one stays. 0: it never answers.
    answers: dict[str, list[int]] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)
    #: at one path, at the same moment.
    most_at_once: int = 0
    #: how long each answer takes, in seconds.
    delay: float = 0.0
    #: it speaks HTTPS with this certificate.
    tls: ssl.SSLContext | None = None
    #: what it says to those whom it does not answer 2xx.
    retry_after: str = ""
    _at_once: int = 0
    _runner: web.AppRunner | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> WebhookSink:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        """Where it answers."""
        assert self._runner is not None
        return f"http{'s' if self.tls else ''}://{host}:{self._runner.addresses[0][1]}/{path}"

    def at(self, path: str) -> list[Told]:
        """What was told there."""
        return [one for one in self.told if one.path == path]

    async def reached(self, path: str, count: int) -> list[Told]:
        """What was told there, once it is so much."""
        return await self.until(lambda: self.at(path) if len(self.at(path)) >= count else [])

    async def until(self, found: Callable[[], list[Told]]) -> list[Told]:
        """What ``found`` finds, once it finds something."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (there := found()):
                self._news.clear()
                await self._news.wait()
        return there

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append(Told(path, headers, body))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        self._news.set()
        try:
            planned = self.answers.get(path, [200])
            status = planned.pop(0) if len(planned) > 1 else planned[0]
            if status == 0:
                await asyncio.sleep(3600)
            if self.delay:
                await asyncio.sleep(self.delay)
        finally:
            self._at_once -= 1
        # Every answer that is no success leads somewhere else, for whoever follows it.
        headers = {"Location": "/elsewhere"} if status >= 300 else {}
        if status >= 300 and self.retry_after:
            headers["Retry-After"] = self.retry_after
        return web.Response(status=status, text="thanks", headers=headers)
