"""For whom work is done at the moment: said where a request is admitted, heard where something is scarce."""

from __future__ import annotations

from contextvars import ContextVar
from uuid import UUID

#: the organisation whose request this task answers; None: the house's own work, and that of strangers.
current_tenant: ContextVar[UUID | None] = ContextVar("current_tenant", default=None)
