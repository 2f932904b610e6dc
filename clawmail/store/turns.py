"""Turns: who gets the next free connection, when all are in use.

Each tenant has a line of its own, and the lines are served in turn. So whoever asks a lot waits behind himself, and
another tenant's single question behind one of each of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Hashable


class Turns:
    """Gives out a number of places."""

    def __init__(self, places: int) -> None:
        self._free = places
        #: those who wait, by tenant; the first line is served next.
        self._lines: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def place(self, tenant: Hashable) -> AsyncIterator[None]:
        """A place for ``tenant``, for the time of the block."""
        await self.enter(tenant)
        try:
            yield
        finally:
            self.leave()

    async def enter(self, tenant: Hashable) -> None:
        """Returns when ``tenant`` has a place, which ``leave`` gives back."""
        if self._free and not self._lines:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(tenant, deque()).append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():  # given up at the moment it came
                self.leave()
            else:
                self._forget(tenant, place)
            raise

    def leave(self) -> None:
        """Hands the place on: to the line that has waited longest for its turn."""
        while self._lines:
            tenant, line = self._lines.popitem(last=False)
            place = line.popleft()
            if line:
                self._lines[tenant] = line
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def _forget(self, tenant: Hashable, place: asyncio.Future[None]) -> None:
        line = self._lines.get(tenant)
        if line is not None and place in line:
            line.remove(place)
            if not line:
                del self._lines[tenant]
