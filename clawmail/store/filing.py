"""Filing: what a batch of mails writes, as the columns of one statement.

A round trip costs about as much as the rows of five mails, so what every mail writes goes to the database at once: the
message, its copies in inboxes, the threads they open or go on with, the events, the kept counts. The statement looks at
the quotas itself, and writes nothing where an inbox is gone or has no room.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from clawmail.model.events import Event
from clawmail.model.mail import SNIPPET_CHARACTERS, Filing, Message, Posting, message_key
from clawmail.store.db import Connection
from clawmail.store.events import event_columns
from clawmail.store.queries import load
from clawmail.store.usage import UsageChange, usage_columns

_sql = load("postings")
_json = msgspec.json.Encoder()


@dataclass(slots=True)
class _Thread:
    """What a batch adds to one thread."""

    subject: str
    #: of the newest email, which is the one shown.
    newest: Message
    filing: Filing
    first_at: datetime
    has_attachments: bool
    count: int = 1

    def add(self, message: Message, filing: Filing) -> None:
        """One more email."""
        if filing.email_id > self.filing.email_id:
            self.newest, self.filing = message, filing
        self.first_at = min(self.first_at, message.received_at)
        self.has_attachments = self.has_attachments or bool(message.attachments)
        self.count += 1


@dataclass(slots=True)
class Batch:
    """The rows of one statement."""

    #: those that are not in the database yet.
    messages: list[Message] = field(default_factory=list)
    filed: list[tuple[Posting, Filing, UUID]] = field(default_factory=list)
    threads: dict[UUID, _Thread] = field(default_factory=dict)
    usage: dict[UUID, UsageChange] = field(default_factory=lambda: defaultdict(UsageChange))
    events: list[Event] = field(default_factory=list)
    #: inboxes that must have room for what is filed into them.
    bounded: set[UUID] = field(default_factory=set)

    def add(self, posting: Posting, filing: Filing, thread_id: UUID) -> None:
        """A copy of a message for an inbox."""
        message = posting.message
        self.filed.append((posting, filing, thread_id))
        thread = self.threads.get(thread_id)
        if thread is None:
            self.threads[thread_id] = _Thread(
                message.subject, message, filing, message.received_at, bool(message.attachments)
            )
        else:
            thread.add(message, filing)
        change = self.usage[filing.inbox_id]
        change.bytes += message.size
        change.read += filing.is_read
        change.unread += not filing.is_read
        change.inbound_unread += not filing.is_read and filing.direction == "inbound"
        if filing.within_quota:
            self.bounded.add(filing.inbox_id)


async def file(conn: Connection, batch: Batch) -> bool:
    """Writes a batch; False, and nothing is written, where an inbox is gone or one of ``bounded`` has no room."""
    return bool(
        await conn.fetchval(
            _sql.file,
            *_columns(message_row(message) for message in batch.messages),
            *_email_columns(batch.filed),
            *_thread_columns(batch.threads),
            *event_columns(batch.events),
            *usage_columns(batch.usage),
            list(batch.bounded),
        )
    )


#: columns of a message, see ``message_row``.
MESSAGE_COLUMNS = 23


def _columns(rows: Iterable[tuple[object, ...]]) -> list[list[object]]:
    turned = [list(column) for column in zip(*rows, strict=True)]
    return turned or [[] for _ in range(MESSAGE_COLUMNS)]


def message_row(message: Message) -> tuple[object, ...]:
    """The columns of ``insert_message``, and one of each of ``file``'s. A large one takes a while: it is digested."""
    return (
        message.id,
        message.raw,
        hashlib.sha256(message.raw).digest(),
        message.size,
        message.trace,
        message.rfc_message_id,
        message.in_reply_to,
        _array(message.reference_ids),
        message.subject,
        message.from_address,
        message.from_name,
        message.envelope_from,
        message.sender_warning,
        _array(message.to_addresses),
        _array(message.cc_addresses),
        _array(message.bcc_addresses),
        _array(message.reply_to),
        message.body_text,
        message.body_html,
        _json.encode(message.attachments).decode(),
        None if message.authentication is None else _json.encode(message.authentication).decode(),
        message.received_at,
        _array(message.notes),
    )


def _array(texts: Sequence[str]) -> str:
    """A list as PostgreSQL writes arrays: a column of lists of different lengths is no array of arrays."""
    if not texts:
        return "{}"
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + '","'.join(quoted) + '"}'


def _email_columns(filed: Sequence[tuple[Posting, Filing, UUID]]) -> tuple[list[object], ...]:
    return (
        [filing.email_id for _, filing, _ in filed],
        [filing.organisation_id for _, filing, _ in filed],
        [filing.domain_id for _, filing, _ in filed],
        [filing.inbox_id for _, filing, _ in filed],
        [posting.message.id for posting, _, _ in filed],
        [thread_id for _, _, thread_id in filed],
        [filing.direction for _, filing, _ in filed],
        [filing.is_read for _, filing, _ in filed],
        [posting.message.size for posting, _, _ in filed],
        [_key_of(posting.message) for posting, _, _ in filed],
        [posting.message.received_at for posting, _, _ in filed],
    )


def _thread_columns(threads: dict[UUID, _Thread]) -> tuple[list[object], ...]:
    # In one order, so that two batches never wait for each other in a ring.
    rows = sorted(threads.items())
    return (
        [thread_id for thread_id, _ in rows],
        [thread.filing.organisation_id for _, thread in rows],
        [thread.filing.domain_id for _, thread in rows],
        [thread.filing.inbox_id for _, thread in rows],
        [thread.subject for _, thread in rows],
        [_snippet(thread.newest) for _, thread in rows],
        [thread.first_at for _, thread in rows],
        [thread.newest.received_at for _, thread in rows],
        [thread.filing.direction for _, thread in rows],
        [thread.filing.email_id for _, thread in rows],
        [thread.count for _, thread in rows],
        [thread.has_attachments for _, thread in rows],
    )


def _key_of(message: Message) -> UUID | None:
    return message_key(message.rfc_message_id) if message.rfc_message_id else None


def _snippet(message: Message) -> str:
    return " ".join((message.body_text or "")[: 4 * SNIPPET_CHARACTERS].split())[:SNIPPET_CHARACTERS]
