"""One request from its first line to its answer: find the route, count, judge, read, handle, encode.

The order matters. Strangers are counted before a key is looked at, keys are judged before the body is read, and
whatever goes wrong on the way ends in ``errors.to_response`` and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address

from aiohttp import web

from clawmail.api import metrics, reading
from clawmail.api.errors import to_response
from clawmail.api.patience import Patience
from clawmail.api.routing import Call, Route, Table, json_response
from clawmail.api.services import Services
from clawmail.base.errors import Unauthenticated
from clawmail.base.secrets import same
from clawmail.base.tenant import current_tenant
from clawmail.core.limits import LimitName
from clawmail.model.tenancy import Principal

#: on every answer: it is for its caller alone, and is what its Content-Type says.
COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Server": "clawmail",
}
#: longest Authorization header that is looked at: an address (RFC 5321 section 4.5.3.1), a colon and a key.
MAX_CREDENTIAL_CHARACTERS = 1024


class Pipeline:
    """Answers requests; one for a process."""

    def __init__(self, table: Table, services: Services, clock: Callable[[], datetime] | None = None) -> None:
        self._table = table
        self._services = services
        self._patience = Patience()
        self._clock = clock or (lambda: datetime.now(UTC))
        api = services.settings.api
        self._max_body, self._register_token, self._hops = (
            api.max_json_bytes,
            api.domain_register_token,
            api.trust_proxy,
        )

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to ``request``."""
        began = time.perf_counter()
        where = "none"
        headers = dict(COMMON_HEADERS)
        try:
            path, query = reading.target(request)
            route, parameters = self._table.find(request.method, path)
            where = route.name
            response = await self._answer(route, parameters, query, request, headers)
        except ConnectionError:
            raise  # the caller has hung up: nobody is left to answer
        except Exception as error:  # the one place where errors become answers
            response = to_response(error, where=where)
            if request.writer.output_size:
                raise ConnectionError("an answer that had begun cannot be finished") from error
        metrics.REQUESTS.labels(where, response.status).inc()
        metrics.SECONDS.labels(where).observe(time.perf_counter() - began)
        if not response.prepared:
            for name, value in headers.items():
                response.headers.setdefault(name, value)
        return response

    async def _answer(
        self,
        route: Route,
        parameters: Mapping[str, str],
        query_text: str,
        request: web.BaseRequest,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        client = client_ip(request, self._hops)
        current_tenant.set(None)  # a kept connection may have brought somebody else's request before
        identity = await self._admit(route, request, client, headers)
        if identity is not None:
            current_tenant.set(identity.organisation_id)
        query = None if route.query is None else reading.decode_query(query_text, route.query)
        raw, body = b"", None
        if route.body is not None:
            raw = await reading.read_body(request, self._max_body)
            body = await reading.decode_body(raw, route.body, self._services.aside.run)
        call = Call(route, identity, body, query, parameters, raw, request, self._services, self._clock(), client)
        answer = await route.handler(call)
        if answer is None:
            return web.Response(status=route.status)
        if isinstance(answer, web.StreamResponse):
            return answer
        return json_response(answer, status=route.status)

    async def _admit(
        self, route: Route, request: web.BaseRequest, client: str, headers: dict[str, str]
    ) -> Principal | None:
        """Counts the request and judges its key. Strangers are counted first: guessing keys must not be free."""
        for_inbox = route.auth in ("inbox", "inbox or domain")
        if for_inbox:
            await self._count("strangers", client, None, headers)
        elif route.limiter is not None:
            await self._count(route.limiter, client, None, headers)
        identity = await self._identify(route, request)
        if for_inbox and route.limiter is not None and identity is not None:
            await self._count(route.limiter if identity.kind == "inbox" else "domain", client, identity, headers)
        return identity

    async def _count(self, name: LimitName, client: str, identity: Principal | None, headers: dict[str, str]) -> None:
        limits = self._services.limits
        if not limits.enabled:
            return
        allowance = await limits.hit(name, limits.caller(name, client, identity))
        headers["RateLimit-Policy"] = f"{allowance.limit};w={allowance.window_seconds}"
        headers["RateLimit-Limit"] = str(allowance.limit)
        headers["RateLimit-Remaining"] = str(allowance.remaining)
        headers["RateLimit-Reset"] = str(allowance.reset_seconds)
        if allowance.exceeded:
            await asyncio.sleep(self._patience.wait(limits.caller("strangers", client, None)))
            raise allowance.refusal()

    async def _identify(self, route: Route, request: web.BaseRequest) -> Principal | None:
        if route.auth == "none":
            return None
        if route.auth == "register":
            if self._register_token and not same(bearer(request.headers), self._register_token):
                raise Unauthenticated("Registering a domain needs the server's registration token")
            return None
        credential, access = bearer(request.headers), self._services.access
        # The key of an inbox is written <email>:<key>; no token holds a colon.
        address, colon, key = credential.rpartition(":")
        if route.auth == "inbox" or (route.auth == "inbox or domain" and colon):
            if not colon:
                raise Unauthenticated("Invalid credentials; expected <email>:<inbox_api_key>")
            return await access.inbox(address, key)
        if colon:
            raise Unauthenticated("This call takes a domain's token, not the key of an inbox")
        if route.auth == "creation":
            return await access.creation(credential)
        return await access.domain(credential, pending=route.auth == "pending domain")


def bearer(headers: Mapping[str, str]) -> str:
    """The credential of ``Authorization: Bearer …`` (RFC 6750 section 2.1). Raises Unauthenticated without one."""
    scheme, _, credential = headers.get("Authorization", "").partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:  # RFC 9110 section 11.1: the scheme's case does not matter
        raise Unauthenticated("Missing or invalid Authorization header; expected Bearer and a key")
    if len(credential) > MAX_CREDENTIAL_CHARACTERS or "\x00" in credential:
        raise Unauthenticated("Invalid key")
    return credential


def client_ip(request: web.BaseRequest, hops: int) -> str:
    """The caller's address. ``hops`` reverse proxies are ours: each adds the address it saw to X-Forwarded-For.

    The last ``hops`` entries were therefore written by us, and anything before them by whoever wanted to.
    """
    seen = request.remote or "0.0.0.0"
    if not hops:
        return seen
    forwarded = [part.strip() for line in request.headers.getall("X-Forwarded-For", ()) for part in line.split(",")]
    for candidate in reversed(forwarded[-hops:]):
        try:
            seen = str(ip_address(candidate))
        except ValueError:
            break  # an entry none of our proxies would write: the address before it is the last one we can believe
    return seen
