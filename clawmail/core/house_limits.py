"""Rate limits of several processes without a store of their own: counted in memory, added up in PostgreSQL.

Each process counts for itself, tells the others once a second what it has counted, and hears what they have; idle, it
says nothing. A caller who has used up a tenth of his limit since is told of at once, before he is answered. So low
limits (registrations, sends) are exact at the price of a statement a request, high ones cost nothing worth mentioning,
and each further process lets through a tenth more at most. When the database is away, each counts on for itself.
"""

from __future__ import annotations

import asyncio
import time

from limits import RateLimitItem

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.tenant import house_task
from clawmail.core.limits import FALLBACK_SECONDS, MAX_CALLERS, SHARED_SECONDS, BoundedMemory, MemoryLimiter
from clawmail.store import rate_counts
from clawmail.store.db import Database
from clawmail.store.rate_counts import Count

#: seconds for which the others may not know what was counted here.
EXCHANGE_SECONDS = 1.0
#: the part of a limit that is told of at once.
AT_ONCE = 0.1
#: callers of one statement.
MAX_ROWS = 2_000

log = logger("limits")


class HouseCounts(BoundedMemory):
    """Counts that are what all processes have counted, as far as they have said so."""

    def __init__(self, db: Database) -> None:
        super().__init__()
        self._db = db
        #: counted here and not told yet.
        self._untold: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._again_at = 0.0

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Counts ``amount`` more and returns the count of the window."""
        count = await super().incr(key, expiry, amount)
        if key in self._untold or len(self._untold) < MAX_CALLERS:
            begun = count == amount  # what was untold of the window before, nobody needs any more
            self._untold[key] = amount if begun else self._untold.get(key, 0) + amount
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(EXCHANGE_SECONDS, self._exchange_soon)
        return count

    def untold(self, key: str) -> int:
        """How much of a caller's count the others do not know."""
        return self._untold.get(key, 0)

    async def exchange(self) -> None:
        """Tells the others what was counted here, and hears what they have counted of the same callers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if time.monotonic() < self._again_at:
            return  # what is untold waits for the next time
        now = time.time()
        told, self._untold = self._untold, {}
        counted = {key: Count(count, self._counts[key][1] - now) for key, count in told.items() if key in self._counts}
        open_still = [item for item in counted.items() if item[1].seconds > 0]
        try:
            for first in range(0, len(open_still), MAX_ROWS):
                await self._exchange(dict(open_still[first : first + MAX_ROWS]))
        except (StoreUnwell, TimeoutError) as error:
            self._again_at = time.monotonic() + FALLBACK_SECONDS
            for key, count in told.items():
                self._untold[key] = self._untold.get(key, 0) + count
            log.warning("limits are counted by this process alone", problem=str(error) or "no answer in time")

    async def _exchange(self, counted: dict[str, Count]) -> None:
        async with asyncio.timeout(SHARED_SECONDS), self._db.connection() as conn:
            sums = await rate_counts.exchange(conn, counted)
        now = time.time()
        for key, (count, seconds) in sums.items():
            # While we asked, more may have been counted here, or another answer may have come that knew more.
            here, ends = self._counts.get(key, (0, 0.0))
            known = here if abs(ends - now - seconds) < EXCHANGE_SECONDS else 0
            self._counts[key] = max(known, count + self.untold(key)), now + seconds

    def _exchange_soon(self) -> None:
        self._timer = None
        task = house_task(self.exchange(), "exchange limits")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def forget(self) -> None:
        """Drops the counts of windows that are over from the database."""
        async with self._db.connection() as conn:
            await rate_counts.forget(conn)

    async def close(self) -> None:
        """Tells what is untold."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._untold:
            await self.exchange()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HouseLimiter(MemoryLimiter):
    """A fixed window that all processes share."""

    def __init__(self, counts: HouseCounts) -> None:
        super().__init__(counts)
        self._counts = counts

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        """Counts a request; whether it is within the limit."""
        key = item.key_for(*identifiers)
        count = await self._counts.incr(key, item.get_expiry(), amount=cost)
        if count <= item.amount and self._counts.untold(key) >= AT_ONCE * item.amount:
            await self._counts.exchange()
            count = await self._counts.get(key)
        return count <= item.amount

    async def forget(self) -> None:
        """Drops what no window needs any more."""
        await self._counts.forget()

    async def close(self) -> None:
        """Tells the others what is untold."""
        await self._counts.close()
