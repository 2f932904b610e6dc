"""Turns on the event loop: a crowd waits behind itself, and nobody's fault stops the others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from clawmail.base.loop import FairLoop
from clawmail.base.tenant import current_tenant, house_task


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Runs on the loop that a server runs on."""
    with asyncio.Runner(loop_factory=FairLoop) as one:
        yield one


async def steps(tenant: str | None, count: int, taken: list[str | None]) -> None:
    """``count`` steps of ``tenant``'s, each noted when it is taken."""
    current_tenant.set(tenant)
    for _ in range(count):
        await asyncio.sleep(0)
        taken.append(tenant)


def test_a_neighbour_takes_one_step_for_each_of_a_crowd(runner: asyncio.Runner) -> None:
    taken: list[str | None] = []

    async def both() -> None:
        await asyncio.gather(*(steps("crowd", 10, taken) for _ in range(100)), steps("neighbour", 10, taken))

    runner.run(both())
    assert taken.count("crowd") == 1000
    last = max(place for place, tenant in enumerate(taken) if tenant == "neighbour")
    assert taken[:last].count("crowd") <= 11


def test_a_tenants_own_steps_keep_their_order(runner: asyncio.Runner) -> None:
    order: list[int] = []

    async def numbered(number: int) -> None:
        current_tenant.set("one")
        await asyncio.sleep(0)
        order.append(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(numbered(number) for number in range(50)))

    runner.run(all_of_them())
    assert order == list(range(50))


def test_the_house_does_not_queue(runner: asyncio.Runner) -> None:
    taken: list[str | None] = []

    async def both() -> None:
        crowd = asyncio.gather(*(steps("crowd", 5000, taken) for _ in range(20)))
        await steps(None, 3, taken)
        taken.append("end of the house's work")
        await crowd

    runner.run(both())
    assert taken.index("end of the house's work") < len(taken) // 2


def test_sockets_are_looked_at_while_steps_wait(runner: asyncio.Runner) -> None:
    async def heard_beside_a_crowd() -> bytes:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        crowd = [asyncio.create_task(_endless()) for _ in range(20)]
        there.send(b"still here")
        async with asyncio.timeout(10):
            said = await reader.read(100)
        for task in crowd:
            task.cancel()
        writer.close()
        there.close()
        return said

    assert runner.run(heard_beside_a_crowd()) == b"still here"


async def _endless() -> None:
    current_tenant.set("crowd")
    while True:
        await asyncio.sleep(0)


def test_what_one_step_raises_is_reported_and_the_others_go_on(runner: asyncio.Runner) -> None:
    reported: list[dict[str, Any]] = []

    def fail(_future: object) -> None:
        raise RuntimeError("a fault of ours")

    async def faulty() -> str:
        current_tenant.set("one")
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: reported.append(context))
        answer: asyncio.Future[str] = loop.create_future()
        answer.add_done_callback(fail)
        answer.set_result("answered")
        return await answer

    assert runner.run(faulty()) == "answered"
    assert [str(context["exception"]) for context in reported] == ["a fault of ours"]


def test_an_exit_within_a_step_leaves_no_line_unserved(runner: asyncio.Runner) -> None:
    async def leave() -> None:
        current_tenant.set("one")
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def afterwards() -> str:
        current_tenant.set("one")
        await asyncio.sleep(0)
        return "served"

    with contextlib.suppress(SystemExit):
        runner.run(leave())
    assert runner.run(afterwards()) == "served"


def test_a_task_of_the_house_belongs_to_nobody(runner: asyncio.Runner) -> None:
    seen: list[object] = []

    async def look() -> None:
        seen.append(current_tenant.get())

    async def brought_about() -> None:
        current_tenant.set("one")
        await house_task(look(), "look")

    runner.run(brought_about())
    assert seen == [None]
