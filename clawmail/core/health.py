"""Whether this server can do its work: PostgreSQL answers, and soon."""

from __future__ import annotations

import asyncio
import time

from clawmail.base.errors import StoreUnwell
from clawmail.store import health as store
from clawmail.store.db import Database

#: longest wait for PostgreSQL.
TIMEOUT_SECONDS = 3.0
#: for so long an answer stands, so that asking often costs nothing.
FRESH_SECONDS = 0.5


class Health:
    """Asks PostgreSQL, once for all who want to know at the same moment."""

    def __init__(self, db: Database, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._db = db
        self._timeout = timeout_seconds
        self._well_at = float("-inf")
        self._asking = asyncio.Lock()

    async def check(self) -> None:
        """Returns when PostgreSQL answers. Raises StoreUnwell when it does not."""
        try:
            async with asyncio.timeout(self._timeout), self._asking:
                if time.monotonic() - self._well_at < FRESH_SECONDS:
                    return
                async with self._db.connection() as conn:
                    await store.ping(conn)
                self._well_at = time.monotonic()
        except TimeoutError:
            raise StoreUnwell("the store does not answer") from None
