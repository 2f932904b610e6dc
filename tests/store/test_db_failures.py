"""What goes wrong with a connection, in our words; and what is a fault of ours stays one."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from clawmail.base.errors import StoreUnwell
from clawmail.store.db import Database


async def test_a_goodbye_to_a_connection_that_is_gone_means_that_the_store_is_away(db: Database) -> None:
    with pytest.raises(StoreUnwell) as unwell:
        async with db.connection():
            await asyncio.to_thread(_write_after_loss)
    assert not unwell.value.answered


def _write_after_loss() -> None:
    """Raises what uvloop raises when a closed connection is written to."""

    async def write() -> None:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = writer.transport
        transport.abort()
        while "closed=True" not in repr(transport):
            await asyncio.sleep(0.01)
        server.close()
        transport.write(b"goodbye")

    uvloop.run(write())


async def test_any_other_runtime_error_is_a_fault_of_ours(db: Database) -> None:
    with pytest.raises(RuntimeError, match="a fault of ours"):
        async with db.connection():
            raise RuntimeError("a fault of ours")


async def test_connections_learn_what_they_will_be_asked_when_they_are_made(db: Database) -> None:
    learned = Database(db.url, pool_size=1, learns=("SELECT 1",))
    await learned.open()
    await learned.close()
    with pytest.raises(StoreUnwell):
        await Database(db.url, pool_size=1, learns=("SELECT nothing_of_the_kind()",)).open()
