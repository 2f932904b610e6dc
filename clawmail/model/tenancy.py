"""Who owns what: domains, inboxes, keys, rules, and the principal a key turns out to be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

KeyKind = Literal["domain", "creation", "inbox"]
MatchField = Literal["from", "to", "subject"]


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of a tenant."""

    id: UUID
    organisation_id: UUID
    #: lower case, A-labels, no last dot.
    name: str
    state: Literal["pending", "verified"]
    #: what its _clawmail TXT record has to say.
    verification_value: str
    #: verified by the operator's word, without DNS.
    trusted: bool
    created_at: datetime
    verified_at: datetime | None
    #: a pending registration is forgotten after this moment.
    pending_until: datetime | None

    @property
    def verified(self) -> bool:
        """Mail for it is accepted."""
        return self.state == "verified"


@dataclass(frozen=True, slots=True)
class Inbox:
    """One address that mail is kept for."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    #: local part as first written; compared without regard to case.
    local_part: str
    address: str
    is_catch_all: bool
    storage_quota_bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A stored bearer key: everything but its text."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    inbox_id: UUID | None
    kind: KeyKind
    prefix: str
    #: argon2id.
    secret_hash: str
    label: str
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    #: when a creation key was used up.
    used_at: datetime | None
    revoked_at: datetime | None

    def usable(self, now: datetime) -> bool:
        """Neither revoked, nor used up, nor expired."""
        return self.revoked_at is None and self.used_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, as proved by a key."""

    kind: KeyKind
    key_id: UUID
    organisation_id: UUID
    domain_id: UUID
    domain_name: str
    #: set for an inbox key.
    inbox_id: UUID | None = None
    #: address of that inbox.
    address: str | None = None


@dataclass(frozen=True, slots=True)
class ForwardingRule:
    """Mail of a domain that matches is also sent on."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    match_field: MatchField
    #: RE2 syntax, at most 1,024 characters.
    regex_pattern: str
    destination_email: str
    is_active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A domain's signing key; the private part stays sealed until it is used."""

    id: UUID
    domain_id: UUID
    selector: str
    algorithm: Literal["rsa-sha256", "ed25519-sha256"]
    private_sealed: bytes
    #: value of the TXT record: v=DKIM1; k=…; p=…
    public_record: str
    state: Literal["waiting", "active", "retired"]
    created_at: datetime


class OwnRetention(NamedTuple):
    """How long one domain keeps things, by the operator's word; None: as the settings say, 0: for ever."""

    mail_days: float | None
    attachment_hours: float | None
    event_days: float | None
