"""What strangers may take in a minute, of all processes together: token buckets that hear of each other.

A bucket holds a minute's worth and fills steadily. Each process has one of its own for everybody who comes, and takes
from it what he took here, and what the others say he took there. Of who took a fiftieth of a minute's worth the others
are told within a second, of who took a tenth at once, before he is answered: so a usual message asks nobody, a low
limit is exact, and each further process lets through a tenth more at most. The sums are those of ``store.rate_counts``.
When the database is away, each process counts on for itself, and tells afterwards.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.tenant import house_task
from clawmail.core.limits import FALLBACK_SECONDS, SHARED_SECONDS
from clawmail.store import rate_counts
from clawmail.store.db import Database
from clawmail.store.rate_counts import Count

#: seconds in which a bucket fills, and after which a sum begins anew.
MINUTE_SECONDS = 60.0
#: buckets that are remembered; the one used longest ago is forgotten first.
MAX_BUCKETS = 100_000
#: the parts of a bucket whose taking is told soon, and at once.
WORTH_TELLING, AT_ONCE = 0.02, 0.1
#: seconds that soon is.
EXCHANGE_SECONDS = 1.0
#: buckets of one statement.
MAX_ROWS = 2_000

log = logger("limits")


@dataclass(slots=True)
class _Bucket:
    """What is left to somebody."""

    #: a minute's worth.
    size: int
    #: below 0: overdrawn.
    level: float
    filled_at: float
    #: taken here, and the others do not know.
    untold: int = 0
    #: what all took in the window of the last answer, and when that ends.
    known: int = 0
    ends_at: float = 0.0

    def fill(self, now: float) -> None:
        """What flowed back since the last time."""
        self.level = min(self.size, self.level + self.size * (now - self.filled_at) / MINUTE_SECONDS)
        self.filled_at = now

    def hear(self, told: int, answer: Count, now: float) -> None:
        """Takes out what the others took: what is in the sum, less what was in it and what we told."""
        ends_at = now + answer.seconds
        is_same_window = abs(self.ends_at - ends_at) < EXCHANGE_SECONDS
        others = answer.number - told - (self.known if is_same_window else 0)
        self.level -= min(max(others, 0), self.size)
        self.known, self.ends_at = answer.number, ends_at


class Rates:
    """The buckets of one process."""

    def __init__(self, db: Database | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """``db``: where processes hear of each other; None: this one is alone."""
        self._db = db
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        #: whose taking is to be told.
        self._due: set[str] = set()
        #: one exchange at a time, or the answer to one would count what another told.
        self._exchanging = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._again_at = 0.0

    async def take(self, key: str, size: int, amount: int) -> bool:
        """Takes ``amount`` out of a bucket; False, and nothing is taken, if there is less in it."""
        bucket = self.draw(key, size, amount)
        if bucket.level >= 0:
            await self._agree(bucket)
        if bucket.level >= 0:
            return True
        bucket.level += amount
        bucket.untold -= amount
        return False

    async def has_any(self, key: str, size: int) -> bool:
        """Whether a bucket is not empty."""
        bucket = self._bucket(key, size)
        if bucket.level > 0:
            await self._agree(bucket)
        return bucket.level > 0

    def draw(self, key: str, size: int, amount: int) -> _Bucket:
        """Takes ``amount`` even if there is less; what is missing has to flow back first."""
        bucket = self._bucket(key, size)
        bucket.level -= amount
        bucket.untold += amount
        if self._db is not None and bucket.untold >= WORTH_TELLING * size:
            self._due.add(key)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(EXCHANGE_SECONDS, self._exchange_soon)
        return bucket

    async def close(self) -> None:
        """Tells the others what they do not know yet."""
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._exchange()

    def _bucket(self, key: str, size: int) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= MAX_BUCKETS:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = _Bucket(size, size, now)
            return bucket
        self._buckets.move_to_end(key)
        bucket.fill(now)
        return bucket

    async def _agree(self, bucket: _Bucket) -> None:
        if self._db is not None and bucket.untold >= AT_ONCE * bucket.size:
            await self._exchange()

    def _exchange_soon(self) -> None:
        self._timer = None
        task = house_task(self._exchange(), "exchange rates")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self) -> None:
        """Tells the others what was taken here, and hears what was taken elsewhere."""
        async with self._exchanging:
            if self._clock() < self._again_at:
                return  # what is untold waits for the next time
            due = [(key, bucket) for key in self._due if (bucket := self._buckets.get(key)) is not None]
            self._due.clear()
            for first in range(0, len(due), MAX_ROWS):
                await self._tell(due[first : first + MAX_ROWS])

    async def _tell(self, due: list[tuple[str, _Bucket]]) -> None:
        if self._db is None:
            return
        told = {key: bucket.untold for key, bucket in due}
        for _, bucket in due:
            bucket.untold = 0
        try:
            async with asyncio.timeout(SHARED_SECONDS), self._db.connection() as conn:
                sums = await rate_counts.exchange(conn, {k: Count(n, MINUTE_SECONDS) for k, n in told.items()})
        except (StoreUnwell, TimeoutError) as error:
            self._again_at = self._clock() + FALLBACK_SECONDS
            for key, bucket in due:
                bucket.untold += told[key]
                self._due.add(key)
            log.warning("rates are counted by this process alone", problem=str(error) or "no answer in time")
            return
        now = self._clock()
        for key, bucket in due:
            bucket.hear(told[key], sums[key], now)
