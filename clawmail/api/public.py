"""What anybody may ask, without a key: is the server well, and, from nearby, its metrics."""

from __future__ import annotations

import asyncio
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal

from aiohttp import web
from msgspec import Meta, Struct
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from clawmail.api.routing import Call, Route
from clawmail.base.errors import NotFound

#: loopback, link-local and private networks (RFC 1122, 1918, 3927, 4193, 4291).
NEIGHBOURS = [
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]


class Health(Struct, frozen=True):
    """The server is well."""

    status: Literal["ok"]
    timestamp: Annotated[str, Meta(description="UTC, ISO 8601 with milliseconds")]


def with_milliseconds(moment: datetime) -> str:
    """2026-01-01T00:00:00.000Z"""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


async def health(call: Call) -> Health:
    """GET /health: up only when PostgreSQL answers."""
    await call.services.check_store()
    return Health("ok", with_milliseconds(call.now))


async def metrics(call: Call) -> web.Response:
    """GET /metrics: for Prometheus, which is usually on the same machine or in the same private network."""
    if not _may_read_metrics(call):
        raise NotFound("No such path")
    registry = await call.services.measured()
    body = await asyncio.to_thread(generate_latest, registry)
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _may_read_metrics(call: Call) -> bool:
    api = call.services.settings.api
    if api.metrics != "private":
        return api.metrics == "everyone"
    # Behind a proxy that the settings do not know of, everybody seems to come from this machine.
    headers = call.request.headers
    if not api.trust_proxy and ("X-Forwarded-For" in headers or "Forwarded" in headers):
        return False
    address = ip_address(call.client_ip.partition("%")[0])
    return any(address in network for network in NEIGHBOURS)


ROUTES = (
    Route("GET", "/health", health, "Whether the server is up and its store answers", auth="none", answer=Health),
    Route(
        "GET",
        "/metrics",
        metrics,
        "Metrics for Prometheus; by default for loopback and private addresses only",
        auth="none",
        content_types=("text/plain",),
        errors=(404,),
    ),
)
