"""The event loop, with turns: one step of each tenant's work after another.

A step is what a task does between two waits. An event loop takes steps in the order in which they became possible, so
that whoever has a hundred tasks takes a hundred steps between any two of his neighbour's. Here each tenant has a line
of his own, and the lines are served in turn. What no tenant asked for, the house's own work, does not queue.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextvars import Context
from typing import Any, TypeVarTuple, Unpack

import uvloop

from clawmail.base.tenant import current_tenant

#: seconds for which steps are taken before the loop looks at its sockets and timers again.
TURN_SECONDS = 0.0005

_Ts = TypeVarTuple("_Ts")
_Step = tuple[Context, Callable[..., object], tuple[Any, ...]]


class FairLoop(uvloop.Loop):
    """uvloop's loop; the steps of tasks with a ``current_tenant`` wait for that tenant's turn."""

    def __init__(self) -> None:
        super().__init__()
        #: the next line to be served is the first.
        self._lines: OrderedDict[Hashable, deque[_Step]] = OrderedDict()
        self._serving = False
        self._soon = super().call_soon

    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Runs ``callback(*args)`` in its turn.

        Tasks and futures, which alone name a context, keep no handle, and for a step in a line there is none.
        """
        tenant = context.get(current_tenant) if context is not None else None
        if tenant is None:
            return self._soon(callback, *args, context=context)
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = deque()
        line.append((context, callback, args))  # type: ignore[arg-type]  # without a context there is no tenant
        if not self._serving:
            self._serving = True
            self._soon(self._serve)
        return None  # type: ignore[return-value]  # see above

    def _serve(self) -> None:
        lines = self._lines
        until = time.perf_counter() + TURN_SECONDS
        try:
            while lines:
                tenant, line = lines.popitem(last=False)
                context, callback, args = line.popleft()
                if line:
                    lines[tenant] = line
                try:
                    context.run(callback, *args)
                except Exception as error:  # noqa: BLE001  as for every other callback: reported, and the loop goes on
                    self.call_exception_handler({"message": f"exception in {callback!r}", "exception": error})
                if time.perf_counter() > until:
                    break
        finally:
            self._serving = bool(lines)
            if lines:
                self._soon(self._serve)
