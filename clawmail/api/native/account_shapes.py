"""What the calls about keys, inboxes and forwarding rules take and answer, as types.

Field names and forms are the contract's; counts of an inbox are decimal strings there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from clawmail.api.native.times import seconds_or_none, whole_seconds
from clawmail.core.inboxes import NewCreationKey, NewInboxKey
from clawmail.model.accounts import InboxKey, InboxOverview
from clawmail.model.tenancy import ForwardingRule, MatchField


def _about(text: str) -> Meta:
    return Meta(description=text)


class CreationKey(Struct, frozen=True):
    """A key that makes one inbox, shown once."""

    id: UUID
    inbox_creation_key: str
    key_prefix: str
    expires_at: datetime

    @classmethod
    def of(cls, key: NewCreationKey) -> CreationKey:
        """The shape of a new creation key."""
        return cls(key.id, key.text, key.prefix, whole_seconds(key.expires_at))


class CreateApiKey(Struct, frozen=True):
    """Asks for a key to an inbox."""

    email: Annotated[str, _about("Address of the inbox, made if it is missing"), Meta(min_length=1, max_length=1000)]
    label: Annotated[str, Meta(max_length=200, description="A name for people")] | None = None


class ApiKey(Struct, frozen=True):
    """A key to an inbox, shown once."""

    api_key: str
    key_prefix: str
    email: str
    label: str | None
    id: UUID

    @classmethod
    def of(cls, key: NewInboxKey) -> ApiKey:
        """The shape of a new inbox key."""
        return cls(key.text, key.prefix, key.address, key.label or None, key.id)


class ApiKeyInfo(Struct, frozen=True):
    """A key to an inbox, without its text."""

    id: UUID
    key_prefix: str
    email: str
    label: str | None
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: InboxKey) -> ApiKeyInfo:
        """The shape of a listed key."""
        return cls(
            key.id,
            key.key_prefix,
            key.email,
            key.label or None,
            whole_seconds(key.created_at),
            seconds_or_none(key.last_used_at),
            seconds_or_none(key.revoked_at),
        )


class ApiKeyList(Struct, frozen=True):
    """The inbox keys of a domain."""

    api_keys: list[ApiKeyInfo]


class InboxInfo(Struct, frozen=True):
    """An inbox with its kept counts."""

    id: UUID
    address: str
    local_part: str
    created_at: datetime
    storage_used_bytes: Annotated[str, _about("Decimal digits")]
    storage_quota_bytes: Annotated[str, _about("Decimal digits")]
    is_catch_all: bool
    unread_count: Annotated[str, _about("Inbound, not archived, not read; decimal digits")]

    @classmethod
    def of(cls, inbox: InboxOverview) -> InboxInfo:
        """The shape of a listed inbox."""
        return cls(
            inbox.id,
            inbox.address,
            inbox.local_part,
            whole_seconds(inbox.created_at),
            str(inbox.storage_used_bytes),
            str(inbox.storage_quota_bytes),
            inbox.is_catch_all,
            str(inbox.unread_count),
        )


class InboxList(Struct, frozen=True):
    """The inboxes of a domain."""

    inboxes: list[InboxInfo]


class CreateRule(Struct, frozen=True):
    """Asks for mail that matches to be sent on."""

    match_field: Annotated[MatchField, _about("The one field that is matched")]
    regex_pattern: Annotated[str, _about("RE2 syntax, at most 1024 characters")]
    destination_email: Annotated[str, _about("Where a match is sent")]


class Rule(Struct, frozen=True):
    """A forwarding rule."""

    id: UUID
    match_field: MatchField
    regex_pattern: str
    destination_email: str
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, rule: ForwardingRule) -> Rule:
        """The shape of a rule."""
        return cls(
            rule.id,
            rule.match_field,
            rule.regex_pattern,
            rule.destination_email,
            rule.is_active,
            whole_seconds(rule.created_at),
        )


class RuleList(Struct, frozen=True):
    """The forwarding rules of a domain."""

    rules: list[Rule]
