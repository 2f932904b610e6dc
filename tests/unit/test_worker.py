"""The worker's loop of claims: woken by everything, and not worn out by what it cannot carry."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from clawmail import worker as worker_module
from clawmail.core.outbound.queue import Outbound
from clawmail.store.deliveries import Claim
from clawmail.worker import VAIN_CLAIMS, OutboundWorker


class Queue:
    """A queue whose destinations are all paused, or not."""

    held: tuple[()] = ()

    def __init__(self) -> None:
        self.claims = 0
        self.brings: tuple[Any, ...] = ()

    async def claim(self) -> Claim:
        self.claims += 1
        return Claim(self.brings, complete=True, next_due=None)

    async def keep(self) -> int:
        return 0

    async def write_notices(self) -> int:
        return 0

    async def stop(self, grace: float) -> None:
        assert grace >= 0


@pytest.fixture(autouse=True)
def long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever pauses once does so for the whole test."""
    monkeypatch.setattr(worker_module, "VAIN_SECONDS", 3600.0)


async def woken_often(queue: Queue, turns: int, until: int) -> None:
    """A worker that is woken at each turn of the loop, until it has claimed so often or the turns are over."""
    worker = OutboundWorker(lambda *_: cast(Outbound, queue), poll_seconds=60.0, lease_seconds=60.0)
    await worker.start()
    for _ in range(turns):
        worker.wake()
        await asyncio.sleep(0)
        if queue.claims >= until:
            break
    await worker.stop()


async def test_mail_for_paused_destinations_does_not_bring_a_claim_each() -> None:
    queue = Queue()
    await woken_often(queue, 2_000, until=2_000)
    assert VAIN_CLAIMS <= queue.claims <= 20


async def test_while_claims_bring_something_there_is_no_pause() -> None:
    queue = Queue()
    queue.brings = (object(),)
    await woken_often(queue, 2_000, until=50)
    assert queue.claims == 50


async def test_claims_now_and_then_are_not_in_vain() -> None:
    queue = Queue()
    worker = OutboundWorker(lambda *_: cast(Outbound, queue), poll_seconds=60.0, lease_seconds=60.0)
    await worker.start()
    for number in range(1, 2 * VAIN_CLAIMS):
        async with asyncio.timeout(10):
            while queue.claims < number:
                await asyncio.sleep(0)
        await asyncio.sleep(0.15)
        worker.wake()
        for _ in range(5):  # a few turns of the loop, and no pause
            await asyncio.sleep(0)
        assert queue.claims == number + 1
    await worker.stop()
