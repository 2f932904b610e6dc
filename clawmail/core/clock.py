"""The time of the house: what PostgreSQL's clock says, so that all processes on one database agree.

A lease, a retry and the age of mail are compared across processes and machines. Were each to use the wall clock of its
own machine, one clock set wrong would take over work that is being done, put mail off by a month, or remove mail that
is not old. So the database is asked now and then, and in between time passes by the monotonic clock, which nobody can
set. Until it was asked the first time, and for what concerns nobody else, the wall clock has to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from clawmail.base.log import logger
from clawmail.store import health as store
from clawmail.store.db import Database

#: seconds between two looks at the database's clock; monotonic clocks drift by less than a millisecond in that time.
SYNC_SECONDS = 60.0
#: seconds by which the wall clock may differ before it is worth a line in the log.
WORTH_SAYING_SECONDS = 5.0

log = logger("app")


class HouseClock:
    """A clock to be called: ``clock()`` is the moment, in UTC."""

    def __init__(
        self,
        db: Database,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._db = db
        self._monotonic = monotonic
        self._wall = wall
        self._moment: datetime | None = None
        self._read_at = 0.0

    def __call__(self) -> datetime:
        """Now, by the database's clock."""
        if self._moment is None:
            return self._wall()
        return self._moment + timedelta(seconds=self._monotonic() - self._read_at)

    async def sync(self) -> None:
        """Asks the database. Raises StoreUnwell; then time goes on as before."""
        async with self._db.connection() as conn:
            began = self._monotonic()
            moment = await store.moment(conn)
            ended = self._monotonic()
        # NTP's way: the answer was made half-way between question and answer.
        self._moment, self._read_at = moment, (began + ended) / 2
        ahead = (self._wall() - self()).total_seconds()
        if abs(ahead) > WORTH_SAYING_SECONDS:
            log.warning("this machine's clock is not the database's", seconds_ahead=round(ahead, 1))
