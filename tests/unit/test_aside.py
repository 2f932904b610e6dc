"""Work beside the server: what comes back is what was asked for, whatever happens to the other process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from clawmail.base.errors import Invalid
from clawmail.base.tenant import current_tenant
from clawmail.core import aside
from clawmail.core.aside import LARGE_BYTES, NICE, Aside
from clawmail.protocol.mime.parse import parse_message

LARGE = b"Subject: large\r\n\r\n" + b"a line of it\r\n" * (LARGE_BYTES // 14)


def where(raw: bytes, *, scale: int = 1) -> tuple[int, int, int]:
    """Who works on how much at which priority."""
    return len(raw) * scale, os.getpid(), os.nice(0)


def counted(number: int, *, scale: int = 1) -> tuple[int, int, int]:
    """Who counts how far at which priority."""
    return number * scale, os.getpid(), os.nice(0)


def complain(raw: bytes) -> None:
    """An error with a field."""
    raise Invalid(f"{len(raw)} octets are too many", field="raw")


def die(raw: bytes, home: int) -> str:
    """The end of whatever process this runs in, unless it is ``home``."""
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{len(raw)} octets at home"


def wait(raw: bytes, begun: Path) -> None:
    """Says that it has begun, and never comes back."""
    begun.touch()
    while raw:
        signal.pause()


async def test_large_work_is_done_by_a_process_that_stands_back() -> None:
    beside = Aside()
    first = await beside.run(where, LARGE, scale=2)
    assert first == (2 * len(LARGE), first[1], os.nice(0) + NICE)
    assert first[1] != os.getpid()
    assert await beside.run(where, LARGE) == (len(LARGE), *first[1:])
    assert await beside.run(parse_message, LARGE) == parse_message(LARGE)
    assert await beside.run(where, b"small") == (5, os.getpid(), os.nice(0))
    await beside.close()


async def test_what_is_small_and_takes_long_is_done_there_too() -> None:
    beside = Aside()
    number, process, priority = await beside.compute(counted, 7, scale=6)
    assert (number, priority) == (42, os.nice(0) + NICE)
    assert process != os.getpid()
    await beside.close()


async def test_tenants_get_their_turns_one_after_the_other() -> None:
    beside, order = Aside(), list[str]()

    async def ask(tenant: str) -> None:
        current_tenant.set(tenant)
        await beside.compute(counted, 1)
        order.append(tenant)

    await asyncio.gather(*(ask("crowd") for _ in range(10)), ask("neighbour"))
    assert order.index("neighbour") <= 2
    await beside.close()


async def test_many_at_once_get_their_own_answers() -> None:
    beside = Aside()
    sizes = [LARGE_BYTES + number for number in range(8)]
    answers = await asyncio.gather(*(beside.run(where, bytes(size)) for size in sizes))
    assert [size for size, *_ in answers] == sizes
    await beside.close()


async def test_what_it_raises_is_raised() -> None:
    beside = Aside()
    with pytest.raises(Invalid, match=f"{len(LARGE)} octets are too many") as raised:
        await beside.run(complain, LARGE)
    assert raised.value.field == "raw"
    assert (await beside.run(where, LARGE))[0] == len(LARGE)
    await beside.close()


async def test_work_that_kills_the_process_is_done_here_and_the_next_has_a_new_one() -> None:
    beside = Aside()
    before = await beside.run(where, LARGE)
    assert await beside.run(die, LARGE, os.getpid()) == f"{len(LARGE)} octets at home"
    after = await beside.run(where, LARGE)
    assert after[1] not in (before[1], os.getpid())
    await beside.close()


async def test_a_caller_who_goes_away_leaves_no_answer_to_the_next(tmp_path: Path) -> None:
    beside, begun = Aside(), tmp_path / "begun"
    task = asyncio.create_task(beside.run(wait, LARGE, begun))
    while not begun.exists():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await beside.run(where, LARGE))[0] == len(LARGE)
    await beside.close()


async def test_it_ends_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "IDLE_SECONDS", 0.01)
    beside = Aside()
    pid = (await beside.run(where, LARGE))[1]
    while Path(f"/proc/{pid}").exists():
        await asyncio.sleep(0.01)
    assert (await beside.run(where, LARGE))[0] == len(LARGE)
    await beside.close()


async def test_it_does_not_outlive_whoever_asked() -> None:
    beside = Aside()
    pid = (await beside.run(where, LARGE))[1]
    process, wire = beside._process, beside._wire
    assert process is not None and wire is not None
    wire[1].close()
    assert await asyncio.to_thread(process.wait) == 0
    assert (await beside.run(where, LARGE))[1] != pid
    await beside.close()
