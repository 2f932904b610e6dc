"""A site's connections between two messages: kept for a while, looked after by one timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.pacing import Limits
from clawmail.core.outbound.site import Site
from clawmail.net.mx import Route
from clawmail.net.smtp_client import Session

IDLE_SECONDS = 0.2


class Kept:
    """What a site knows of a connection."""

    usable, messages, opened_for = True, 0, "far.test"

    def __init__(self, host: str) -> None:
        self.host = host
        self.quits = 0

    async def quit(self) -> None:
        self.quits += 1

    def abort(self) -> None:
        raise AssertionError("these connections end in peace")


class Carrier:
    """Carries a job over the session it is given, or over a new one."""

    def __init__(self) -> None:
        self.opened: list[Kept] = []

    async def __call__(self, _site: Site, _job: Job, session: Session | None) -> Session | None:
        await asyncio.sleep(0)
        if session is None:
            self.opened.append(Kept("mx.far.test"))
            session = cast(Session, self.opened[-1])
        return session


def job() -> Job:
    """Carried by nobody who looks at it."""
    return Job((), Route("far.test", primary=("mx.far.test",)))


@pytest.fixture
def carrier() -> Carrier:
    """Opens connections that last."""
    return Carrier()


def a_site(carrier: Carrier) -> Site:
    """With one connection at a time, which is kept for IDLE_SECONDS."""
    return Site("far.test", Limits(idle_seconds=IDLE_SECONDS), carry=carrier, on_room=lambda: None)


async def carry_one(site: Site) -> None:
    """One message from offer to end."""
    site.offer([job()])
    while site.busy:
        await asyncio.sleep(0)


async def closed(connection: Kept) -> None:
    """When the site has said goodbye."""
    async with asyncio.timeout(10):
        while not connection.quits:
            await asyncio.sleep(0.01)


async def test_a_connection_serves_again_and_again_and_one_timer_looks_after_it(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, timers = a_site(carrier), list[float]()
    loop = asyncio.get_running_loop()

    def later(delay: float, callback: Callable[..., object], *_: object) -> asyncio.TimerHandle:
        if getattr(callback, "__self__", None) is site:  # others share the loop
            timers.append(delay)
        return asyncio.TimerHandle(loop.time() + delay, callback, (), loop)

    monkeypatch.setattr(loop, "call_later", later)

    for _ in range(50):
        await carry_one(site)

    assert len(carrier.opened) == 1
    assert timers == [IDLE_SECONDS]


async def test_an_idle_connection_is_closed_in_peace(carrier: Carrier) -> None:
    site = a_site(carrier)
    await carry_one(site)
    assert site.idle == 1

    await closed(carrier.opened[0])

    assert site.idle == 0
    await site.close(1)


async def test_what_was_used_meanwhile_is_kept_for_its_whole_time(carrier: Carrier) -> None:
    site = a_site(carrier)
    await carry_one(site)
    await asyncio.sleep(IDLE_SECONDS / 2)
    await carry_one(site)
    used = asyncio.get_running_loop().time()

    await closed(carrier.opened[0])

    assert asyncio.get_running_loop().time() - used >= IDLE_SECONDS
    assert len(carrier.opened) == 1
    await site.close(1)
