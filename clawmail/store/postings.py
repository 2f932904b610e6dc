"""Postings: all that accepted mails write, many mails in one transaction.

Mail that arrives together is committed together, so the cost of a commit is shared. The rows of one batch go in with
one statement a table. A posting that a full inbox refuses is left out and said so; its neighbours are not touched.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from clawmail.base.errors import ClawmailError, NotFound, QuotaExceeded
from clawmail.model.mail import SNIPPET_CHARACTERS, Filing, Message, Posted, Posting, message_key
from clawmail.store import events
from clawmail.store.db import Connection
from clawmail.store.enqueue import as_it_is, enqueue
from clawmail.store.queries import load
from clawmail.store.usage import UsageChange, became_read, usage_columns

#: messages above so many bytes are digested in a thread.
THREAD_BYTES = 1024 * 1024
#: References looked at when a thread is searched, newest first.
MAX_REFERENCES = 50

_sql = load("postings")
_json = msgspec.json.Encoder()


@dataclass(slots=True)
class _Batch:
    """The rows of one transaction, gathered while threads are decided."""

    filed: list[tuple[Posting, Filing, UUID]] = field(default_factory=list)
    opened: list[tuple[Posting, Filing, UUID]] = field(default_factory=list)
    extended: list[tuple[Posting, Filing, UUID]] = field(default_factory=list)
    usage: dict[UUID, UsageChange] = field(default_factory=lambda: defaultdict(UsageChange))


async def post(conn: Connection, postings: Sequence[Posting]) -> list[Posted | ClawmailError]:
    """Writes ``postings`` inside the caller's transaction; one result for each, in order.

    A result is an error (QuotaExceeded, or NotFound for an inbox that was removed meanwhile) when that posting was
    left out.
    """
    # The bytes first: they take longest, and nobody else's mail for these inboxes has to wait for them.
    await conn.executemany(_sql.insert_message, [await _row_of(posting.message) for posting in postings])
    refusals = await _refusals(conn, postings)
    accepted = [posting for posting, refusal in zip(postings, refusals, strict=True) if refusal is None]
    if len(accepted) < len(postings):
        refused = {posting.message.id for posting in postings} - {posting.message.id for posting in accepted}
        await conn.execute(_sql.take_back_messages, list(refused))
    if not accepted:
        return [refusal for refusal in refusals if refusal is not None]
    batch, threads = await _decide_threads(conn, accepted)
    await _file(conn, batch)
    deliveries = [(posting.message.id, delivery) for posting in accepted for delivery in posting.deliveries]
    suppressed = await enqueue(conn, deliveries)
    await events.append(conn, [as_it_is(event, suppressed) for posting in accepted for event in posting.events])
    await _keep_answers(conn, accepted)
    return [
        refusal if refusal is not None else Posted(posting.message.id, threads[posting.message.id])
        for posting, refusal in zip(postings, refusals, strict=True)
    ]


async def is_stored(conn: Connection, message_id: UUID, backend: int) -> bool | None:
    """Whether a message is there, and so everything that was written with it.

    None: not yet, but PostgreSQL's process ``backend``, from which we heard no more, is still about it.
    """
    # In this order: who has ended when we ask has committed before we look, or never will.
    running = await conn.fetchval(_sql.is_running, backend)
    return bool(await conn.fetchval(_sql.is_stored, message_id)) or (None if running else False)


async def _refusals(conn: Connection, postings: Sequence[Posting]) -> list[ClawmailError | None]:
    """Which postings their inboxes cannot take, after locking those inboxes' counts."""
    wanted = {filing.inbox_id for posting in postings for filing in posting.filings}
    if not wanted:
        return [None] * len(postings)
    rows = await conn.fetch(_sql.lock_usage, sorted(wanted))
    left = {row["inbox_id"]: row["storage_quota_bytes"] - row["used_bytes"] for row in rows}
    refusals: list[ClawmailError | None] = []
    for posting in postings:
        size = posting.message.size
        refusal: ClawmailError | None = None
        for filing in posting.filings:
            if filing.inbox_id not in left:
                refusal = NotFound("Inbox not found")
            elif filing.within_quota and left[filing.inbox_id] < size:
                refusal = refusal or QuotaExceeded("Mailbox storage quota exceeded", field=str(filing.inbox_id))
        if refusal is None:
            for filing in posting.filings:
                left[filing.inbox_id] -= size
        refusals.append(refusal)
    return refusals


async def _decide_threads(conn: Connection, postings: Sequence[Posting]) -> tuple[_Batch, dict[UUID, dict[UUID, UUID]]]:
    """Finds each filing's thread by In-Reply-To, then References, inside its own inbox; else it opens one."""
    references = {posting.message.id: _reference_keys(posting.message) for posting in postings}
    known = await _known_threads(conn, postings, references)
    batch = _Batch()
    threads: dict[UUID, dict[UUID, UUID]] = {posting.message.id: {} for posting in postings}
    for posting in postings:
        message = posting.message
        for filing in posting.filings:
            thread_id = filing.thread_id
            if thread_id is None:
                candidates = (known.get((filing.inbox_id, key)) for key in references[message.id])
                thread_id = next((thread for thread in candidates if thread is not None), None)
            if thread_id is None:
                thread_id = filing.new_thread_id or filing.email_id
                batch.opened.append((posting, filing, thread_id))
            else:
                batch.extended.append((posting, filing, thread_id))
            if message.rfc_message_id:
                known.setdefault((filing.inbox_id, message_key(message.rfc_message_id)), thread_id)
            threads[message.id][filing.email_id] = thread_id
            batch.filed.append((posting, filing, thread_id))
    return batch, threads


def _reference_keys(message: Message) -> list[UUID]:
    """What the message says it answers, best witness first."""
    newest_first = [*reversed(message.reference_ids)][:MAX_REFERENCES]
    named = [message.in_reply_to, *newest_first] if message.in_reply_to else newest_first
    return list(dict.fromkeys(message_key(name) for name in named))


async def _known_threads(
    conn: Connection, postings: Sequence[Posting], references: dict[UUID, list[UUID]]
) -> dict[tuple[UUID, UUID], UUID]:
    pairs = {
        (filing.inbox_id, key)
        for posting in postings
        for filing in posting.filings
        if filing.thread_id is None
        for key in references[posting.message.id]
    }
    if not pairs:
        return {}
    inboxes, keys = zip(*pairs, strict=True)
    rows = await conn.fetch(_sql.threads_of_references, inboxes, keys)
    return {(row["inbox_id"], row["message_key"]): row["thread_id"] for row in rows}


async def find_thread(conn: Connection, inbox_id: UUID, message: Message) -> UUID | None:
    """The thread of ``inbox_id`` that a message answers into; None if there is none."""
    keys = _reference_keys(message)
    rows = await conn.fetch(_sql.threads_of_references, [inbox_id] * len(keys), keys)
    threads = {row["message_key"]: row["thread_id"] for row in rows}
    return next((threads[key] for key in keys if key in threads), None)


async def _file(conn: Connection, batch: _Batch) -> None:
    """Emails and the threads they open, kept counts, and the threads that go on."""
    if not batch.filed:
        return
    await _mark_answered(conn, batch)
    await conn.execute(_sql.file, *_email_columns(batch), *_thread_columns(batch), *usage_columns(batch.usage))
    for posting, filing, thread_id in batch.extended:
        await _extend_thread(conn, posting.message, filing, thread_id)


async def _extend_thread(conn: Connection, message: Message, filing: Filing, thread_id: UUID) -> None:
    now_shown = (_snippet(message), message.received_at, filing.direction, filing.email_id, bool(message.attachments))
    if await conn.execute(_sql.extend_thread, thread_id, *now_shown) != "UPDATE 0":
        return
    snippet, at, direction, email_id, has_attachments = now_shown
    owner = (filing.organisation_id, filing.domain_id, filing.inbox_id)
    await conn.execute(
        _sql.reopen_thread, thread_id, *owner, message.subject, snippet, at, direction, email_id, has_attachments
    )


async def _mark_answered(conn: Connection, batch: _Batch) -> None:
    """What was filed is counted, and mail that it answers becomes read."""
    for posting, filing, _ in batch.filed:
        change = batch.usage[filing.inbox_id]
        change.bytes += posting.message.size
        change.read += filing.is_read
        change.unread += not filing.is_read
        change.inbound_unread += not filing.is_read and filing.direction == "inbound"
        if filing.answers is not None:
            answered = await conn.fetchrow(_sql.mark_answered, filing.answers, filing.inbox_id)
            if answered is not None:
                became_read(change, answered["direction"], archived=answered["is_archived"])


def _email_columns(batch: _Batch) -> tuple[list[object], ...]:
    return (
        [filing.email_id for _, filing, _ in batch.filed],
        [filing.organisation_id for _, filing, _ in batch.filed],
        [filing.domain_id for _, filing, _ in batch.filed],
        [filing.inbox_id for _, filing, _ in batch.filed],
        [posting.message.id for posting, _, _ in batch.filed],
        [thread_id for _, _, thread_id in batch.filed],
        [filing.direction for _, filing, _ in batch.filed],
        [filing.is_read for _, filing, _ in batch.filed],
        [posting.message.size for posting, _, _ in batch.filed],
        [_key_of(posting.message) for posting, _, _ in batch.filed],
        [posting.message.received_at for posting, _, _ in batch.filed],
    )


def _thread_columns(batch: _Batch) -> tuple[list[object], ...]:
    return (
        [thread_id for _, _, thread_id in batch.opened],
        [filing.organisation_id for _, filing, _ in batch.opened],
        [filing.domain_id for _, filing, _ in batch.opened],
        [filing.inbox_id for _, filing, _ in batch.opened],
        [posting.message.subject for posting, _, _ in batch.opened],
        [_snippet(posting.message) for posting, _, _ in batch.opened],
        [posting.message.received_at for posting, _, _ in batch.opened],
        [filing.direction for _, filing, _ in batch.opened],
        [filing.email_id for _, filing, _ in batch.opened],
        [bool(posting.message.attachments) for posting, _, _ in batch.opened],
    )


async def _keep_answers(conn: Connection, postings: Sequence[Posting]) -> None:
    for posting in postings:
        if (answer := posting.idempotent_answer) is not None:
            await conn.execute(
                _sql.keep_answer, answer.inbox_id, answer.route, answer.key, answer.status, answer.answer
            )


def _key_of(message: Message) -> UUID | None:
    return message_key(message.rfc_message_id) if message.rfc_message_id else None


def _snippet(message: Message) -> str:
    return " ".join((message.body_text or "")[: 4 * SNIPPET_CHARACTERS].split())[:SNIPPET_CHARACTERS]


async def _row_of(message: Message) -> tuple[object, ...]:
    """The digest of a large message is made in a thread."""
    return _message_row(message) if message.size <= THREAD_BYTES else await asyncio.to_thread(_message_row, message)


def _message_row(message: Message) -> tuple[object, ...]:
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
