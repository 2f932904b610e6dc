"""Fetches go where a stranger's DNS may lead, and no further."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

from clawmail.net.fetch import Fetcher
from tests.support.zones import ScriptedResolver

ZONE = {
    "local.test": {"A": ["127.0.0.1"]},
    "meta.test": {"A": ["169.254.169.254"]},
    "nowhere.test": {},
}


async def small_or_large(request: web.Request) -> web.StreamResponse:
    if request.path == "/away":
        raise web.HTTPFound("/large")
    return web.Response(text="hello" if request.path == "/small" else "x" * 100_000)


@contextlib.asynccontextmanager
async def serving(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = small_or_large,
) -> AsyncIterator[int]:
    application = web.Application()
    application.router.add_route("*", "/{any}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def fetch(url: str, *, allow_private: bool, max_bytes: int = 1000) -> tuple[int, bytes, str]:
    fetcher = Fetcher(ScriptedResolver(ZONE), allow_private=allow_private)
    try:
        found = await fetcher.get(url, max_bytes=max_bytes, timeout=5)
    finally:
        await fetcher.close()
    return found.status, found.body, found.problem


async def test_a_small_answer_is_read_and_a_large_one_is_not() -> None:
    async with serving() as port:
        base = f"http://local.test:{port}"
        assert await fetch(f"{base}/small", allow_private=True) == (200, b"hello", "")
        assert await fetch(f"{base}/small", allow_private=True, max_bytes=5) == (200, b"hello", "")
        status, body, problem = await fetch(f"{base}/large", allow_private=True)
    assert (status, body) == (0, b"") and "larger than 1000 bytes" in problem


async def test_a_redirect_is_not_followed() -> None:
    async with serving() as port:
        status, _, _ = await fetch(f"http://local.test:{port}/away", allow_private=True)
    assert status == 302


@pytest.mark.parametrize("host", ["local.test", "meta.test", "127.0.0.1", "[::1]", "10.0.0.1", "[::ffff:127.0.0.1]"])
async def test_private_addresses_are_refused(host: str) -> None:
    async with serving() as port:
        status, _, problem = await fetch(f"http://{host}:{port}/small", allow_private=False)
    assert status == 0 and "public address" in problem


@pytest.mark.parametrize("url", ["http://nowhere.test/", "not a url", "ftp://local.test/", "http://local.test:1/"])
async def test_what_cannot_be_fetched_is_a_problem_and_no_fault(url: str) -> None:
    status, _, problem = await fetch(url, allow_private=True)
    assert status == 0 and problem


async def test_a_post_gives_its_body_and_keeps_the_status_alone() -> None:
    seen: list[tuple[str, bytes, str | None]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, await request.read(), request.headers.get("Cookie")))
        if request.path == "/endless":
            endless = web.StreamResponse()
            await endless.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await endless.write(b"x" * 65536)
        if request.path == "/silent":
            await asyncio.sleep(3600)
        return web.Response(status=204, headers={"Set-Cookie": "who=me"})

    async with serving(answer) as port:
        fetcher = Fetcher(ScriptedResolver(ZONE), allow_private=True)
        base = f"http://local.test:{port}"
        for _ in range(2):
            assert (await fetcher.post(f"{base}/a", b"hello", {"X-A": "b"}, timeout=5)).status == 204
        assert (await fetcher.post(f"{base}/endless", b"", {}, timeout=5)).status == 200
        silent = await fetcher.post(f"{base}/silent", b"", {}, timeout=0.1)
        assert (silent.status, silent.problem) == (0, "no answer within 0.1 s")
        await fetcher.close()
    assert seen[:2] == [("/a", b"hello", None)] * 2  # what one of its hosts sets, the next one is not shown


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.000.000.001", "0"])
@pytest.mark.parametrize("allow_private", [True, False])
async def test_what_only_looks_like_an_address_is_refused(host: str, allow_private: bool) -> None:
    """The C library would take each for loopback."""
    status, _, problem = await fetch(f"http://{host}/small", allow_private=allow_private)
    assert (status, problem) == (0, f"{host} is not an address")
