"""Whether the store is known to be unwell: then new sessions are turned away before they have said anything.

A message in flight finds out by itself and is answered 451. What it found out is remembered here, and a probe asks the
store every two seconds, so that the door closes without a message having to fail, and opens again by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from clawmail.base.errors import ClawmailError, StoreFull, StoreUnwell
from clawmail.base.log import logger

#: seconds between two looks at the store, and the longest one may take.
PROBE_SECONDS = 2.0
PROBE_TIMEOUT_SECONDS = 5.0
#: seconds after which, without a probe, the next session tries again.
FORGET_SECONDS = 2.0

Probe = Callable[[], Awaitable[object]]

log = logger("smtp")


class Health:
    """What is known of the store. ``probe`` raises StoreUnwell while it does not answer."""

    def __init__(self, probe: Probe | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._probe = probe
        self._clock = clock
        self._unwell_since: float | None = None

    @property
    def unwell(self) -> bool:
        """New sessions are turned away."""
        if self._unwell_since is None:
            return False
        if self._probe is None and self._clock() - self._unwell_since > FORGET_SECONDS:
            self._unwell_since = None
        return self._unwell_since is not None

    def failed(self, error: ClawmailError) -> None:
        """The store failed a message. A full store still answers, and other mail may fit in."""
        if self._unwell_since is None and not isinstance(error, StoreFull):
            self._unwell_since = self._clock()
            log.warning("store unwell; new sessions are turned away", problem=error.message)

    async def watch(self) -> None:
        """Asks the store every two seconds, for as long as the door is open."""
        while self._probe is not None:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                    await self._probe()
            except StoreUnwell as error:
                self.failed(error)
            except Exception as error:  # noqa: BLE001  were the watching to end here, a door that is shut would stay so
                self.failed(StoreUnwell(str(error) or "the store does not answer"))
            else:
                if self._unwell_since is not None:
                    log.info("store well again", seconds=round(self._clock() - self._unwell_since, 1))
                    self._unwell_since = None
            await asyncio.sleep(PROBE_SECONDS)
