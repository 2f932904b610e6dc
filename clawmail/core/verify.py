"""Verification: is everything in the store what it says it is? And what can be derived again, put right.

The walk goes by id, a batch at a time, and holds no lock while it looks, so it can run beside daemons under load, for
hours if there is much mail. Rows that come and go meanwhile are none of its business: what is written after the walk
has passed is looked at the next time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import UUID

from clawmail.base.log import logger
from clawmail.store import verify as store
from clawmail.store.db import Database

log = logger("verify")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was not as it should be."""

    #: name of the check, one of ``store.verify.TABLES``: bytes, orphans, counts, leases …
    check: str
    table: str
    id: UUID
    #: in words, to be read after the row's name.
    problem: str
    #: it can be derived from what is there.
    repairable: bool
    #: and was.
    repaired: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the walk is in one table."""

    table: str
    rows: int
    #: about how many there are; 0 when nobody knows.
    of_about: int
    finished: bool = False


class Verifier:
    """Looks at every row of the store."""

    def __init__(self, db: Database, *, told: Callable[[Progress], None] = lambda _: None) -> None:
        """``told`` hears of the progress after each batch."""
        self._db = db
        self._told = told

    async def run(self, *, repair: bool = False) -> AsyncIterator[Problem]:
        """Every problem, as it is found; ``repair``: what can be derived is put right at once. Raises StoreUnwell."""
        async with self._db.connection() as conn:
            sizes = await store.estimated_rows(conn)
        for table in store.TABLES:
            async for problem in self._walk(table, sizes.get(table.name, 0), repair):
                yield problem

    async def _walk(self, table: store.Table, of_about: int, repair: bool) -> AsyncIterator[Problem]:
        rows, last = 0, None
        while True:
            async with self._db.connection() as conn:
                portions = await store.next_batch(conn, table, last)
            if not portions:
                break
            for ids in portions:
                for check in table.checks:
                    for problem in await self._check(table, check, ids, repair):
                        yield problem
                rows += len(ids)
                self._told(Progress(table.name, rows, max(of_about, rows)))
            last = portions[-1][-1]
        self._told(Progress(table.name, rows, rows, finished=True))

    async def _check(self, table: store.Table, check: store.Check, ids: list[UUID], repair: bool) -> list[Problem]:
        async with self._db.connection() as conn:
            findings = await store.find(conn, check, ids)
        repaired: set[UUID] = set()
        if repair and check.repair is not None:
            for row_id in dict.fromkeys(finding.id for finding in findings):
                if await self._repair(check, row_id):
                    repaired.add(row_id)
                    log.info("repaired", check=check.name, table=table.name, id=str(row_id))
        return [
            Problem(check.name, table.name, row_id, problem, check.repair is not None, row_id in repaired)
            for row_id, problem in findings
        ]

    async def _repair(self, check: store.Check, row_id: UUID) -> bool:
        """Repairs one row and looks again before it commits."""
        assert check.repair is not None
        async with self._db.transaction() as conn:
            await check.repair(conn, row_id)
            return not await store.find(conn, check, [row_id])
