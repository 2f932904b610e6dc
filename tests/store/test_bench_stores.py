"""Stores that the benchmarks fill: what they hold agrees with itself, and nothing that finds it is missing."""

from __future__ import annotations

import asyncpg

from clawmail.core.verify import Verifier
from clawmail.store.db import Database
from tests.bench.stores import Fill

INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
#: of each inbox: emails, unread ones, threads, emails with an event.
HELD = """
SELECT count(e.id), count(e.id) FILTER (WHERE NOT e.is_read), count(DISTINCT e.thread_id), count(v.id)
FROM inboxes i JOIN emails e ON e.inbox_id = i.id LEFT JOIN events v ON v.email_id = e.id AND v.inbox_id = i.id
GROUP BY i.address ORDER BY i.address
"""
FILL = Fill("test", domains=2, inboxes=4, lots=[(1, 10), (3, 50)], text_bytes=300)


async def test_a_filled_store_is_sound_and_has_its_indexes_back(database_url: str, db: Database) -> None:
    connection = await asyncpg.connect(database_url)
    before = await connection.fetch(INDEXES)
    await FILL.pour(connection)
    assert await connection.fetch(INDEXES) == before
    held = [tuple(row) for row in await connection.fetch(HELD)]
    await connection.close()
    # Fifty emails dealt out to three inboxes, in threads of four; every tenth is unread; events tell of the last 13.
    assert held == [(10, 1, 3, 3), (17, 2, 5, 4), (17, 2, 5, 5), (16, 1, 4, 4)]
    # The raw bytes are left out, and nothing else is amiss.
    assert {problem.check async for problem in Verifier(db).run()} == {"bytes"}
