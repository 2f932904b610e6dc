"""The webhook worker: one loop that keeps telling owners what happened.

It is woken by the events of every process (NOTIFY "webhooks"), by its own results, by the clock when the next retry is
due, and looks by itself from time to time, because hints can be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.core.webhooks.queue import WebhookQueue

#: channel on which processes are told that something waits.
CHANNEL = "webhooks"
#: pause between two rounds: what happens meanwhile is claimed and settled together.
GATHER_SECONDS = 0.02
#: gaps between tries while the database is away.
STORE_GAP_SECONDS = 1.0

log = logger("webhooks")


class WebhookWorker:
    """Runs the webhooks of one process."""

    def __init__(
        self,
        make: Callable[[Callable[[], None]], WebhookQueue],
        *,
        poll_seconds: float,
        listen: Callable[[str, Callable[[str], None], Callable[[], None]], None] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``make(on_result)``: the queue. ``listen(channel, heard, lost)``: subscribes to NOTIFY."""
        self._wake = asyncio.Event()
        self.queue = make(self._wake.set)
        self._poll = poll_seconds
        self._listen = listen
        self._clock = clock
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the loop."""
        if self._listen is not None:
            self._listen(CHANNEL, lambda _payload: self._wake.set(), self._wake.set)
        self._loop = asyncio.create_task(self._for_ever(), name="webhooks")

    async def stop(self, grace_seconds: float) -> None:
        """Claims nothing more, finishes what is under way within ``grace_seconds``, gives the rest back."""
        if self._loop is None:
            return
        self._loop.cancel()
        await asyncio.gather(self._loop, return_exceptions=True)
        self._loop = None
        await self.queue.stop(grace_seconds)

    async def _for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                due = await self.queue.round()
            except StoreUnwell as unwell:
                log.warning("webhooks wait for the database", problem=unwell.message)
                await asyncio.sleep(STORE_GAP_SECONDS)
                continue
            except Exception as error:  # events that nobody tells of help nobody
                log.error("webhooks stumbled", exc_info=error)
                await asyncio.sleep(STORE_GAP_SECONDS)
                continue
            await self._rest(self._until(due))
            await asyncio.sleep(GATHER_SECONDS)

    async def _rest(self, seconds: float) -> None:
        """Until woken, or for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _until(self, due: datetime | None) -> float:
        """Seconds until the next look: at the latest when the poll is due."""
        if due is None:
            return self._poll
        return min(self._poll, max(0.0, (due - self._clock()).total_seconds()))
