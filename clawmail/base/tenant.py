"""For whom work is done at the moment: said where a request is admitted, heard where something is scarce."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from contextvars import Context, ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

#: the organisation whose request this task answers or whose mail it carries, or the network of a stranger whose mail it
#: takes; None: the house's own work.
current_tenant: ContextVar[Hashable | None] = ContextVar("current_tenant", default=None)


def house_task(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """A task of the house's own, whosever request brought it about: what it does, it does for everybody."""
    return asyncio.create_task(work, name=name, context=Context())
