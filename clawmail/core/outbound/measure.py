"""How deep the queue is and how old, measured when Prometheus asks.

The depth is a property of the database, not of a process, so nobody keeps it: it is counted on demand, and the result
stands for some seconds, because counting a million rows is not free and whoever may read metrics may read them often.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.operator import OPEN
from clawmail.store import outqueue
from clawmail.store.db import Database

#: for so long a measurement stands.
FRESH_SECONDS = 5.0
#: longest wait for PostgreSQL; Prometheus gives up after ten seconds unless it is told otherwise.
TIMEOUT_SECONDS = 5.0

log = logger("queue")


class QueueMeter:
    """Sets the gauges of ``metrics`` that only the database knows."""

    def __init__(self, db: Database, metrics: OutboundMetrics, *, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._metrics = metrics
        self._clock = clock
        self._measured_at = float("-inf")
        self._measuring = asyncio.Lock()

    async def measured(self) -> CollectorRegistry:
        """The registry to show, its gauges up to date; those that cannot be known now are NaN."""
        async with self._measuring:
            if time.monotonic() - self._measured_at >= FRESH_SECONDS:
                await self._measure()
                self._measured_at = time.monotonic()
        return self._metrics.registry

    async def _measure(self) -> None:
        found: dict[str, tuple[int, datetime]] | None = None
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS), self._db.connection() as conn:
                found = await outqueue.measure(conn)
        except (StoreUnwell, TimeoutError) as unwell:
            log.warning("the queue could not be measured", problem=str(unwell) or "PostgreSQL takes too long")
        now = self._clock()
        for state in OPEN:
            depth, age = math.nan, math.nan
            if found is not None:
                depth, oldest = found.get(state, (0, now))
                age = (now - oldest).total_seconds()
            self._metrics.depth.labels(state.value).set(depth)
            self._metrics.oldest_seconds.labels(state.value).set(age)
