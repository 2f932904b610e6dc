"""The outbound worker: the loops that keep the queue moving.

One loop claims whenever there is something to do: it is woken by this process, a little later by NOTIFY from others,
by the clock when the next retry is due, and looks by itself from time to time, because hints can be lost. Another one
keeps: it renews leases and takes over those of dead processes. A third one writes the notices that senders are owed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.core.outbound.queue import Outbound

#: pause between claims while there is work under way: what is freed meanwhile is asked for together.
GATHER_SECONDS = 0.005
#: pause between a NOTIFY and the claim. Who queued something carries it himself, if he can; but every commit notifies,
#: its own process too, and without the pause each would bring one claim more, in every process, that finds nothing.
HEARD_SECONDS = 0.05
#: so many claims that bring nothing, each so soon after the last, are in vain: what is due is paused or has no room.
#: Then there is a pause before each, until one brings something. Every mail for a paused destination wakes us.
VAIN_CLAIMS, SOON_SECONDS, VAIN_SECONDS = 3, 0.1, 0.05
#: gaps between tries while the database is away.
STORE_GAP_SECONDS = 1.0
#: longest and shortest pause between two heartbeats.
MOST_KEEP_SECONDS = 30.0
LEAST_KEEP_SECONDS = 0.1
#: how often notices are looked for that a dead process still owed.
NOTICE_POLL_SECONDS = 60.0

log = logger("queue")


class OutboundWorker:
    """Runs the queue of one process."""

    def __init__(
        self,
        make: Callable[[Callable[[], None], Callable[[], None]], Outbound],
        *,
        poll_seconds: float,
        lease_seconds: float,
        listen: Callable[[Callable[[str], None], Callable[[], None]], None] | None = None,
    ) -> None:
        """``make(on_room, on_notice)``: the queue. ``listen(heard, lost)``: subscribes to NOTIFY "deliveries"."""
        self._wake = asyncio.Event()
        self._notice = asyncio.Event()
        self.outbound = make(self._wake.set, self._notice.set)
        self._poll = poll_seconds
        self._keep_every = max(LEAST_KEEP_SECONDS, min(lease_seconds / 3, MOST_KEEP_SECONDS))
        self._listen = listen
        self._heard: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """Something was queued."""
        self._wake.set()

    def _hear(self) -> None:
        """Somebody queued something, or may have."""
        if self._heard is None:
            self._heard = asyncio.get_running_loop().call_later(HEARD_SECONDS, self._follow)

    def _follow(self) -> None:
        self._heard = None
        self._wake.set()

    async def start(self) -> None:
        """Starts the loops."""
        if self._listen is not None:
            self._listen(lambda _payload: self._hear(), self._hear)
        self._tasks = [
            asyncio.create_task(self._for_ever(self._claim_loop), name="claim deliveries"),
            asyncio.create_task(self._for_ever(self._keep_loop), name="keep leases"),
            asyncio.create_task(self._for_ever(self._notice_loop), name="write notices"),
        ]

    async def stop(self, grace: float = 20.0) -> None:
        """Stops claiming, finishes what is under way within ``grace`` seconds, gives the rest back."""
        if not self._tasks:
            return
        if self._heard is not None:
            self._heard.cancel()
        claiming, *others = self._tasks
        self._tasks = []
        claiming.cancel()
        await asyncio.gather(claiming, return_exceptions=True)
        await self.outbound.stop(grace)  # the heartbeat goes on meanwhile
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _for_ever(self, loop: Callable[[], Awaitable[None]]) -> None:
        """Keeps a loop going: while the database is away it pauses, and a fault of ours is logged, not fatal."""
        while True:
            try:
                await loop()
            except StoreUnwell as unwell:
                log.warning("the queue waits for the database", problem=unwell.message)
            except Exception as error:  # a queue that stands still helps nobody
                log.error("the queue stumbled", exc_info=error)
            await asyncio.sleep(STORE_GAP_SECONDS)

    async def _claim_loop(self) -> None:
        loop = asyncio.get_running_loop()
        vain, asked = 0, -SOON_SECONDS
        while True:
            self._wake.clear()
            before, asked = asked, loop.time()
            claim = await self.outbound.claim()
            if claim is not None and not claim.complete:
                continue
            brought = claim is None or claim.deliveries
            vain = 0 if brought or asked - before > SOON_SECONDS else vain + 1
            await self._rest(self._until(claim.next_due if claim is not None else None))
            if vain >= VAIN_CLAIMS:
                await asyncio.sleep(VAIN_SECONDS)
            elif self.outbound.held:
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
        return min(self._poll, max(0.0, (due - datetime.now(UTC)).total_seconds()))

    async def _keep_loop(self) -> None:
        while True:
            if await self.outbound.keep():
                self._wake.set()
            await asyncio.sleep(self._keep_every)

    async def _notice_loop(self) -> None:
        while True:
            self._notice.clear()
            await self.outbound.write_notices()
            try:
                async with asyncio.timeout(NOTICE_POLL_SECONDS):
                    await self._notice.wait()
            except TimeoutError:
                continue
