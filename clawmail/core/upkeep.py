"""Upkeep: the periodic work that nobody waits for.

Each chore runs by itself, at its own pace, in batches that do not disturb the mail path. A chore that fails is logged
and tried again at its next turn; it never stops the others, nor the server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger

#: longest run of one chore, in seconds.
CHORE_SECONDS = 600.0

log = logger("upkeep")


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to be done again and again."""

    name: str
    every_seconds: float
    work: Callable[[], Awaitable[object]]


class Upkeep:
    """Runs chores until it is stopped."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        self._chores = chores
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins; the first turn of each chore comes after a random part of its period."""
        self._tasks = [asyncio.create_task(self._repeat(chore), name=f"upkeep {chore.name}") for chore in self._chores]

    async def stop(self) -> None:
        """Stops between two steps of whatever runs; every chore can be cut off and resumed."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _repeat(self, chore: Chore) -> None:
        await asyncio.sleep(random.uniform(0, chore.every_seconds))  # processes of one database spread out
        while True:
            try:
                async with asyncio.timeout(CHORE_SECONDS):
                    await chore.work()
            except (StoreUnwell, TimeoutError) as error:
                log.warning("chore put off", chore=chore.name, problem=str(error) or type(error).__name__)
            except Exception:
                log.exception("chore failed", chore=chore.name)
            await asyncio.sleep(chore.every_seconds)
