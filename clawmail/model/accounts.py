"""What a domain's owner sees of inboxes and keys: rows with what is kept of them, never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class InboxOverview:
    """An inbox as its owner's list shows it."""

    id: UUID
    address: str
    local_part: str
    created_at: datetime
    storage_quota_bytes: int
    is_catch_all: bool
    storage_used_bytes: int
    #: inbound, neither read nor archived.
    unread_count: int


@dataclass(frozen=True, slots=True)
class InboxKey:
    """An inbox key as its owner's list shows it."""

    id: UUID
    key_prefix: str
    email: str
    label: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
