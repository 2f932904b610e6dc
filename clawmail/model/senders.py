"""What tenants say about senders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Verdict = Literal["allow", "block"]


@dataclass(frozen=True, slots=True)
class SenderRule:
    """A sender who is always, or never, heard."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    #: None: for the whole domain.
    inbox_id: UUID | None
    verdict: Verdict
    #: in the form of ``protocol.senders``: ``user@host``, ``host``, ``.host`` (and below), or ``192.0.2.0/24``.
    sender: str
    created_at: datetime
