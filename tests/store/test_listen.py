"""Hearing of changes: a listener that may have missed one says so, also when the network just falls silent."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from clawmail.store import db as module
from clawmail.store.db import Database
from tests.support.postgres import TestServer
from tests.torture.proxy import Proxy


async def test_a_listener_behind_a_silent_network_says_so_and_listens_again(
    postgres: TestServer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LISTEN_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(module, "LISTEN_RETRY_SECONDS", 0.1)
    proxy = Proxy(str(postgres.server.socket_directory / ".s.PGSQL.5432"))
    await proxy.start()
    name = database_url.removeprefix("postgresql://postgres@/").partition("?")[0]
    db = Database(f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}", timeout_seconds=0.5)
    heard: asyncio.Queue[str] = asyncio.Queue()
    lost: asyncio.Queue[None] = asyncio.Queue()
    await db.open()
    db.listen("news", heard.put_nowait, lambda: lost.put_nowait(None))
    async with asyncio.timeout(20):
        await lost.get()  # it has only just begun
        async with db.connection() as conn:
            await conn.execute("SELECT pg_notify('news', 'first')")
        assert await heard.get() == "first"
        await asyncio.sleep(0.3)
        assert lost.empty()
        proxy.cut("silence")
        await lost.get()
        proxy.heal()
        await lost.get()  # it listens again, and may have missed something meanwhile
        connection = await asyncpg.connect(database_url)
        await connection.execute("SELECT pg_notify('news', 'second')")
        await connection.close()
        assert await heard.get() == "second"
    await db.close()
    await proxy.stop()
