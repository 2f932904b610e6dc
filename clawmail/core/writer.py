"""The writer: mail that is accepted at the same moment shares one commit.

An entrance awaits ``write`` and answers 250 or 201 when it returns: the posting is committed. While one transaction is
on its way to the disk, the postings that arrive meanwhile gather, and the next transaction takes them all; for those
that the door has announced (``on_its_way``) it may wait a few milliseconds. So a lone mail never waits for company, and
a crowd pays for one commit. If a batch fails for a reason of one posting, its members are tried one by one, so that
nobody pays for his neighbour. Large messages have a lane of their own: their bytes take the database a while, and small
mail behind them would have to wait. While there is small mail, the large lane rests three times as long as it works.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from clawmail.base.errors import ClawmailError, StoreInDoubt, StoreUnwell
from clawmail.base.tenant import house_task
from clawmail.model.mail import Posted, Posting
from clawmail.store import postings
from clawmail.store.db import Database
from clawmail.store.pieces import LARGE_BYTES

#: postings of one transaction.
MAX_BATCH = 64
#: bytes of one transaction, unless one message alone is larger.
MAX_BATCH_BYTES = 8 * 1024 * 1024
#: how long a commit waits for mail that is on its way, and how long after its announcement mail is waited for: who is
#: slower than that has a far way, or wants to be waited for.
GATHER_SECONDS = 0.003
ANNOUNCED_SECONDS = 0.01
#: seconds after a small message for which large ones leave the database to others; how many times as long as a piece
#: took they rest after it; and the longest rest.
COMPANY_SECONDS = 1.0
RESTS = 3
MAX_REST_SECONDS = 0.05
#: longest wait for one batch, in seconds; after that the mail is refused for now and stays with its sender.
BATCH_SECONDS = 60.0
#: longest search for the outcome of a commit that was not answered, and the gap between two tries, in seconds.
DOUBT_SECONDS = 5.0
DOUBT_GAP_SECONDS = 0.25


_Waiting = deque[tuple[Posting, asyncio.Future[Posted]]]


@dataclass(slots=True)
class _Try:
    """A try to commit a batch, and what is known of it when it ends without an answer."""

    #: filled before the statement that commits is sent.
    written: list[Posted | ClawmailError] = field(default_factory=list)
    #: PostgreSQL's process.
    backend: int = 0


def rest_after(seconds: float, alone: float) -> float:
    """The seconds of rest after a piece that took ``seconds``; the last small message came ``alone`` seconds ago."""
    return min(RESTS * seconds, MAX_REST_SECONDS) if alone < COMPANY_SECONDS else 0.0


class Writer:
    """Gathers postings and commits them."""

    def __init__(
        self, db: Database, *, on_deliveries: Callable[[], None] = lambda: None, gathers: bool = False
    ) -> None:
        """``on_deliveries`` is called after a commit that queued deliveries, to wake this process's worker.

        ``gathers``: a commit waits for mail that is on its way. That pays where several processes have a part of the
        crowd each; one that has it all would only be slower for it."""
        self._db = db
        self._gathers = gathers
        self._on_deliveries = on_deliveries
        self._small: _Waiting = deque()
        self._large: _Waiting = deque()
        #: by the task that will hand mail in: since when it is on its way, on the loop's clock; oldest first.
        self._announced: dict[asyncio.Task[Any] | None, float] = {}
        #: set when nobody is waited for any more.
        self._all_here: asyncio.Future[None] | None = None
        #: when the last small message came, on the loop's clock.
        self._small_at = -COMPANY_SECONDS
        #: the task that empties a lane, by the lane's identity. One: what arrives while a batch is flushed to the disk
        #: shares the next, and the larger the crowd, the cheaper each of it. (Two cost an eighth more CPU a message.)
        self._flushers: dict[int, asyncio.Task[None]] = {}

    @contextlib.contextmanager
    def on_its_way(self) -> Iterator[None]:
        """This task will hand in mail soon: the next commit may wait a little for it."""
        task = asyncio.current_task()
        self._announced[task] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self._arrived(task)

    async def write(self, posting: Posting) -> Posted:
        """Commits ``posting`` and returns. Raises QuotaExceeded, NotFound or StoreUnwell; then nothing was kept."""
        self._arrived(asyncio.current_task())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Posted] = loop.create_future()
        lane = self._large if posting.message.size >= LARGE_BYTES else self._small
        if lane is self._small:
            self._small_at = loop.time()
        lane.append((posting, future))
        if id(lane) not in self._flushers:
            self._flushers[id(lane)] = house_task(self._flush(lane), "writer")
        return await future

    async def close(self) -> None:
        """Waits until everything handed in is committed or refused."""
        while self._flushers:
            await asyncio.wait(set(self._flushers.values()), timeout=BATCH_SECONDS)

    async def _flush(self, lane: _Waiting) -> None:
        try:
            while lane:
                await self._gather(lane)
                if batch := self._next_batch(lane):
                    await self._commit(batch)
        finally:
            # Here and not in a callback: between the last look at the lane and this line nobody else runs.
            del self._flushers[id(lane)]

    async def _gather(self, lane: _Waiting) -> None:
        """Waits while each turn of the loop brings more, and for mail on its way: it shares the commit."""
        before = 0
        while before < len(lane) < MAX_BATCH:
            before = len(lane)
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        if self._gathers and lane is self._small and len(lane) < MAX_BATCH and self._is_waited_for(loop.time()):
            self._all_here = loop.create_future()
            timer = loop.call_later(GATHER_SECONDS, self._go_on)
            await self._all_here
            timer.cancel()

    def _is_waited_for(self, now: float) -> bool:
        """Whether any mail was announced lately."""
        newest = next(reversed(self._announced.values()), None)
        return newest is not None and now - newest < ANNOUNCED_SECONDS

    def _arrived(self, task: asyncio.Task[Any] | None) -> None:
        if self._announced.pop(task, None) is not None and not self._announced:
            self._go_on()

    def _go_on(self) -> None:
        if self._all_here is not None and not self._all_here.done():
            self._all_here.set_result(None)

    @staticmethod
    def _next_batch(lane: _Waiting) -> list[tuple[Posting, asyncio.Future[Posted]]]:
        batch: list[tuple[Posting, asyncio.Future[Posted]]] = []
        size = 0
        while lane and len(batch) < MAX_BATCH:
            posting, future = lane[0]
            if batch and size + posting.message.size > MAX_BATCH_BYTES:
                break
            lane.popleft()
            if not future.cancelled():
                size += posting.message.size
                batch.append((posting, future))
        return batch

    async def _commit(self, batch: list[tuple[Posting, asyncio.Future[Posted]]]) -> None:
        tried = _Try()
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                await self._transaction([posting for posting, _ in batch], tried)
        except (TimeoutError, StoreUnwell) as failure:
            unwell = failure if isinstance(failure, StoreUnwell) else StoreUnwell("the store did not answer in time")
            try:
                stored = not unwell.answered and await self._is_stored(tried)
            except StoreInDoubt as doubt:
                stored, unwell = False, doubt
            if not stored:
                self._settle(batch, [unwell] * len(batch))
                return
        except Exception as error:  # noqa: BLE001  whatever one posting brought on, its owner gets it, and only he
            if len(batch) == 1:
                self._settle(batch, [error])
            else:
                for one in batch:
                    await self._commit([one])
            return
        self._settle(batch, tried.written)
        if any(posting.deliveries for posting, _ in batch):
            self._on_deliveries()

    async def _transaction(self, batch: Sequence[Posting], tried: _Try) -> None:
        """Writes a batch and commits: most mail by one statement, which is a transaction by itself."""
        if postings.is_plain(batch):
            async with self._db.connection() as conn:
                tried.backend = conn.get_server_pid()
                if await postings.post_plain(conn, batch, tried.written):
                    return
            tried.written.clear()
        async with self._db.transaction() as conn:
            tried.backend = conn.get_server_pid()
            tried.written += await postings.post(conn, batch, self.rest)

    async def rest(self, seconds: float) -> None:
        """After a piece of a large message that took ``seconds``: three times as long, while small mail comes."""
        await asyncio.sleep(rest_after(seconds, asyncio.get_running_loop().time() - self._small_at))

    async def _is_stored(self, tried: _Try) -> bool:
        """Whether a transaction that ended without an answer was committed all the same.

        The database may have died, or we may have slept, between its commit and our hearing of it. One row tells of the
        whole transaction. If nobody can say so soon, StoreInDoubt: the sender tries again, and may be heard twice.
        """
        posted = next((result for result in tried.written if isinstance(result, Posted)), None)
        if posted is None:
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOUBT_SECONDS):
                while True:
                    with contextlib.suppress(StoreUnwell):
                        async with self._db.connection() as conn:
                            stored = await postings.is_stored(conn, posted.message_id, tried.backend)
                        if stored is not None:
                            return stored
                    await asyncio.sleep(DOUBT_GAP_SECONDS)
        raise StoreInDoubt("the store did not say in time whether it kept this")

    @staticmethod
    def _settle(batch: Sequence[tuple[Posting, asyncio.Future[Posted]]], results: Sequence[Posted | Exception]) -> None:
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Posted):
                future.set_result(result)
            else:
                future.set_exception(result)
