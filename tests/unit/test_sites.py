"""What a claim is told of the sites: where there is work, and where there is less room than usual."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

import pytest

from clawmail.core.outbound.jobs import Job
from clawmail.core.outbound.pacing import Limits
from clawmail.core.outbound.presets import Presets
from clawmail.core.outbound.settle import Schedule
from clawmail.core.outbound.site import Site
from clawmail.core.outbound.sites import Sites
from clawmail.net.mx import Route
from clawmail.net.smtp_client import Session
from clawmail.store.db import Database

USUAL = 5
ROUTE = Route("far.test", primary=("mx.far.test",))


@pytest.fixture
def sites() -> Sites:
    """Sites whose jobs are over after a turn of the loop."""

    async def carry(_site: Site, _job: Job, _session: Session | None) -> None:
        await asyncio.sleep(0)

    async def take_back(_jobs: object) -> None:
        raise AssertionError("every job is started")

    return Sites(
        cast(Database, None),
        Presets(Limits(start_connections=USUAL), (), ()),
        Schedule(()),
        carry=carry,
        give_back=take_back,
        on_room=lambda: None,
        clock=lambda: datetime.now(UTC),
    )


async def served(site: Site) -> None:
    """Waits until it has nothing more to do."""
    while site.busy:
        await asyncio.sleep(0)


async def test_a_site_is_named_while_it_is_at_work(sites: Sites) -> None:
    sites.of(ROUTE)
    assert sites.rooms() == {}
    for _ in range(2):
        site = sites.of(ROUTE)
        site.offer([Job((), ROUTE), Job((), ROUTE)])
        assert sites.rooms() == {"mx.far.test": USUAL - 2}
        await served(site)
        assert sites.rooms() == {}


async def test_a_site_with_little_room_is_named_until_it_has_more(sites: Sites) -> None:
    site = sites.of(ROUTE)
    site.pace.probe()
    site.offer([Job((), ROUTE)])
    assert sites.rooms() == {"mx.far.test": 0}
    await served(site)
    assert sites.rooms() == sites.rooms() == {"mx.far.test": 1}
    while site.pace.room(0) < USUAL:
        site.pace.good()
    assert sites.rooms() == {}
