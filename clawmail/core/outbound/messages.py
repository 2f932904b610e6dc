"""The bytes of messages while they are being sent, within a fixed amount of memory.

Small messages come with their claim. A large one is read when its turn has come, after room for it is free; all its
deliveries under way share one copy.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from uuid import UUID
from weakref import WeakValueDictionary

from clawmail.model.delivery import ClaimedDelivery
from clawmail.net.content import Content
from clawmail.protocol.authres import remove_forged
from clawmail.protocol.headers import split_message, without_mbox_line
from clawmail.protocol.submission import without_fields
from clawmail.store import pieces
from clawmail.store.db import Database

#: bytes of large messages in memory at once; one that is larger by itself goes alone.
MAX_BYTES = 64 * 1024 * 1024
#: a message is held as read, and once more with its dots stuffed.
COPIES = 2


def assembled(delivery: ClaimedDelivery, raw: bytes) -> bytes:
    """What a delivery sends of the stored message ``raw``: its own fields on top, less the fields they stand in for.

    ``options["without"]`` are lower-case field names; a forward with our From takes out the author's.
    ``options["forged"]``, where it is there, are the names of ours that the message's Authentication-Results bear.
    """
    forged = delivery.options.get("forged")
    if isinstance(forged, list):
        raw = remove_forged(split_message(raw), {str(name) for name in forged})
    replaced = {str(name).encode() for name in delivery.options.get("without") or ()}
    return delivery.prefix + (without_fields(raw, replaced) if replaced else without_mbox_line(raw))


def _prepared(delivery: ClaimedDelivery, raw: bytes) -> Content:
    return Content(assembled(delivery, raw)).prepared()


class Messages:
    """Hands out message contents."""

    def __init__(self, db: Database, max_bytes: int = MAX_BYTES) -> None:
        self._db = db
        self._free = self._max = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._shared: WeakValueDictionary[tuple[UUID, bytes], Content] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def hold(self, delivery: ClaimedDelivery) -> AsyncIterator[Content]:
        """The content of a delivery's message, for the time of the block. Raises StoreUnwell."""
        key = (delivery.message_id, delivery.prefix)
        content = self._shared.get(key)
        if content is not None or delivery.raw is not None:
            if content is None:
                content = self._shared[key] = Content(assembled(delivery, delivery.raw or b""))
            yield content
            return
        size = min(COPIES * delivery.raw_size, self._max)
        await self._take(size)
        try:
            async with self._db.connection() as conn:
                raw = await pieces.read(conn, delivery.message_id, delivery.raw_size)
            content = self._shared[key] = await asyncio.to_thread(_prepared, delivery, raw)
            del raw  # what is held from here on is what was counted
            yield content
        finally:
            self._give(size)

    async def _take(self, size: int) -> None:
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(size)
            raise

    def _give(self, size: int) -> None:
        self._free += size
        while self._waiting and (self._waiting[0][1].done() or self._waiting[0][0] <= self._free):
            size, turn = self._waiting.popleft()
            if not turn.done():
                self._free -= size
                turn.set_result(None)
