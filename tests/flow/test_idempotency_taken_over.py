"""A process that dies with a request in its hands: its Idempotency-Key is free for another one within seconds."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg

from clawmail.core.idempotency import HELD_SECONDS
from tests.flow.test_two_daemons import furnish
from tests.flow.test_two_processes import DOMAIN, settings
from tests.support.daemon import Daemon, running_daemon, start_daemon
from tests.support.dns_server import DnsServerThread

MAIL = {"to": ["a@far.test"], "subject": "once", "text": "x"}


async def send(daemon: Daemon, key: str) -> tuple[int, Any]:
    """The status and the JSON of a send with the key that all of these have."""
    headers = {"Idempotency-Key": "the same"}
    async with daemon.request("POST", "/api/v1/emails/send", key=key, json_body=MAIL, headers=headers) as response:
        return response.status, await response.json()


async def test_the_key_of_a_killed_process_is_free_when_its_claim_is_over(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        dns = stack.enter_context(DnsServerThread({}))
        made = settings(database_url, dns, 1)
        one = await start_daemon(made, tmp_path / "one")
        house = await furnish(one, dns, DOMAIN, "127.0.0.1")
        two = await stack.enter_async_context(running_daemon(made))
        watcher = await asyncpg.connect(database_url)
        stack.push_async_callback(watcher.close)
        # Whoever files mail waits for this lock, with the key taken.
        async with watcher.transaction():
            await watcher.execute("SELECT FROM inbox_usage FOR UPDATE")
            doomed = asyncio.create_task(send(one, house.key))
            async with asyncio.timeout(20):
                while not await watcher.fetchval("SELECT count(*) FROM idempotency_keys"):
                    await asyncio.sleep(0.01)
            assert (await send(two, house.key))[1]["code"] == "idempotency_in_flight"
            await one.stop(signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.gather(doomed, return_exceptions=True)
        async with asyncio.timeout(6 * HELD_SECONDS):
            while (answer := await send(two, house.key))[0] == 409:
                await asyncio.sleep(0.1)
        print(f"sent {time.monotonic() - killed:.1f} s after the kill, a claim lasts {HELD_SECONDS:.0f} s")
        assert answer[0] == 201
        assert await send(two, house.key) == answer
        assert await watcher.fetchval("SELECT count(*) FROM emails WHERE direction = 'outbound'") == 1
