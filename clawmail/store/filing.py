"""Filing: what a batch of mails writes, as the rows of one statement.

A round trip costs about as much as the rows of five mails, so what every mail writes goes to the database at once: the
message, its copies in inboxes, the threads they open or go on with, the events, the kept counts, and the work for the
queue. The statement looks at the quotas itself, and writes nothing where an inbox is gone or has no room. It asks the
suppression list, too: a suppression that was committed before mail began to be written is honoured, whichever process
wrote it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from clawmail.model.delivery import NewDelivery
from clawmail.model.events import Event
from clawmail.model.mail import SNIPPET_CHARACTERS, Filing, Message, Posting, message_key
from clawmail.protocol.address import folded_abroad
from clawmail.store.db import Connection
from clawmail.store.events import event_row
from clawmail.store.queries import load
from clawmail.store.usage import UsageChange, usage_row

_sql = load("postings")
#: the statement.
STATEMENT = _sql.file
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
    #: each beside the id of the message it carries.
    deliveries: list[tuple[UUID, NewDelivery]] = field(default_factory=list)
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
    """Writes a batch; False, and nothing is written, where an inbox is gone or one of ``bounded`` has no room.

    A delivery that its domain must not send is settled from the start, and told so. The queue is woken once this is
    committed.
    """
    return bool(
        await conn.fetchval(
            STATEMENT,
            [message_row(message) for message in batch.messages],
            [_email_row(*filed) for filed in batch.filed],
            # In one order, so that two batches never wait for each other in a ring.
            [_thread_row(*thread) for thread in sorted(batch.threads.items())],
            [event_row(event) for event in batch.events],
            [usage_row(*change) for change in batch.usage.items()],
            list(batch.bounded),
            [delivery_row(*delivery) for delivery in batch.deliveries],
        )
    )


def message_row(message: Message) -> tuple[object, ...]:
    """A message as its table has it. A large one takes a while: it is digested."""
    return (
        message.id,
        message.raw,
        hashlib.sha256(message.raw).digest(),
        message.size,
        message.trace,
        message.rfc_message_id,
        message.in_reply_to,
        message.reference_ids,
        message.subject,
        message.from_address,
        message.from_name,
        message.envelope_from,
        message.sender_warning,
        message.to_addresses,
        message.cc_addresses,
        message.bcc_addresses,
        message.reply_to,
        message.body_text,
        message.body_html,
        _json.encode(message.attachments).decode(),
        None if message.authentication is None else _json.encode(message.authentication).decode(),
        message.received_at,
        message.notes,
    )


def _email_row(posting: Posting, filing: Filing, thread_id: UUID) -> tuple[object, ...]:
    message = posting.message
    return (
        filing.email_id,
        filing.organisation_id,
        filing.domain_id,
        filing.inbox_id,
        message.id,
        thread_id,
        filing.direction,
        filing.is_read,
        message.size,
        message_key(message.rfc_message_id) if message.rfc_message_id else None,
        message.received_at,
    )


def _thread_row(thread_id: UUID, thread: _Thread) -> tuple[object, ...]:
    filing = thread.filing
    return (
        thread_id,
        filing.organisation_id,
        filing.domain_id,
        filing.inbox_id,
        thread.subject,
        _snippet(thread.newest),
        thread.first_at,
        thread.newest.received_at,
        filing.direction,
        filing.email_id,
        thread.count,
        thread.has_attachments,
    )


def _snippet(message: Message) -> str:
    return " ".join((message.body_text or "")[: 4 * SNIPPET_CHARACTERS].split())[:SNIPPET_CHARACTERS]


def delivery_row(message_id: UUID, delivery: NewDelivery) -> tuple[object, ...]:
    """A delivery of a message as PostgreSQL's type ``new_delivery``."""
    return (
        delivery.id,
        delivery.organisation_id,
        delivery.domain_id,
        delivery.inbox_id,
        delivery.email_id,
        delivery.rule_id,
        message_id,
        delivery.prefix,
        delivery.kind,
        delivery.envelope_from,
        delivery.recipient,
        delivery.destination,
        delivery.state.value,
        delivery.next_attempt_at,
        _json.encode(delivery.options).decode(),
        delivery.created_at,
        folded_abroad(delivery.recipient),
    )
