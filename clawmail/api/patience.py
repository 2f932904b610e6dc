"""Patience: a caller who goes on asking after he was told to wait hears it later and later.

A refusal costs a good part of what an answer costs, and a program that asks again at once, on all the connections it
may have, would take the loop from everybody else. The first refusals are said at once, so that a program that has
reached a limit learns of it; further ones wait, and the connection with them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: refusals that are said at once; each further one waits so much longer than the last, in seconds, up to the most.
FREE_REFUSALS = 10
STEP_SECONDS = 0.02
MOST_SECONDS = 1.0
#: seconds without a refusal after which a caller is forgotten, and the number of callers that are remembered.
FORGET_SECONDS = 60.0
MAX_CALLERS = 10_000


class Patience:
    """Counts the refusals of callers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: caller → how often he was refused, and when last; that one at the end.
        self._refusals: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, caller: str) -> float:
        """Counts a refusal of ``caller``; the seconds until it is said."""
        now = self._clock()
        count, last = self._refusals.pop(caller, (0, now))
        if now - last > FORGET_SECONDS:
            count = 0
        self._refusals[caller] = (count + 1, now)
        if len(self._refusals) > MAX_CALLERS:
            self._refusals.popitem(last=False)
        return min(MOST_SECONDS, max(0, count + 1 - FREE_REFUSALS) * STEP_SECONDS)
