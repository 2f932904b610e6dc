"""The wire under an SMTP client: each reply has its own time, and one timer looks after all of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clawmail.net.wire import Wire, WireBroken

SOON, LATER = 0.1, 60.0


class Line(asyncio.Transport):
    """Takes what is written, and can be dropped."""

    aborted = False

    def write(self, _data: Any) -> None:
        """To nobody."""

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def wire() -> Wire:
    """A wire to nobody."""
    wire = Wire()
    wire.connection_made(Line())
    return wire


async def answered(wire: Wire, timeout: float, after: float = 0.0) -> int:
    """The code of a reply that comes so many seconds after it is waited for."""
    asyncio.get_running_loop().call_later(after, wire.data_received, b"250 ok\r\n")
    return (await wire.reply(timeout)).code


async def test_a_shorter_wait_behind_a_longer_one_ends_when_it_says(wire: Wire) -> None:
    assert await answered(wire, LATER) == 250
    with pytest.raises(WireBroken, match=r"no reply within 0\.1 s"):
        await wire.reply(SOON)
    assert wire.transport.aborted


async def test_a_longer_wait_behind_a_shorter_one_has_its_whole_time(wire: Wire) -> None:
    assert await answered(wire, SOON) == 250
    assert await answered(wire, LATER, after=3 * SOON) == 250
    assert not wire.transport.aborted


async def test_a_wire_that_nobody_listens_on_is_not_broken_off(wire: Wire) -> None:
    assert await answered(wire, SOON) == 250
    await asyncio.sleep(2 * SOON)
    assert wire.quiet


async def test_waits_in_a_row_share_a_timer(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), list[float]()
    call_at = loop.call_at

    def counted(when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, callback, *args)

    for _ in range(20):
        loop.call_soon(wire.data_received, b"250 ok\r\n")
        monkeypatch.setattr(loop, "call_at", counted)
        await wire.reply(LATER)
        monkeypatch.undo()
    assert len(timers) == 1
    wire.abort("over")
