"""The same question, asked by many at once: the first one asks, the others wait and find the answer remembered.

Without this, what was remembered of a busy key or domain is looked up again by every request in flight at the moment
when it is forgotten; and a key costs argon2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from weakref import WeakValueDictionary


class SameQuestion:
    """Locks by question. They live as long as somebody holds one or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    def __call__(self, question: Hashable) -> asyncio.Lock:
        """To be held from the look into the memory to the end of the answer: ``async with asked(question):``."""
        lock = self._locks.get(question)
        if lock is None:
            lock = self._locks[question] = asyncio.Lock()
        return lock

    def __len__(self) -> int:
        """Questions that are being asked."""
        return len(self._locks)
