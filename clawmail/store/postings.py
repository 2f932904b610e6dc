"""Postings: all that accepted mails write, many mails in one transaction.

Mail that arrives together is committed together, so the cost of a commit is shared, and what most mail writes is one
statement (``filing``), which looks at the quotas itself. Only when it finds an inbox gone or full are the inboxes
locked and the postings judged one by one: one that is refused is left out and said so; its neighbours are not touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from clawmail.base.errors import ClawmailError, Conflict, NotFound, QuotaExceeded
from clawmail.model.mail import Message, Posted, Posting, message_key
from clawmail.store import pieces
from clawmail.store.db import Connection
from clawmail.store.filing import Batch, file
from clawmail.store.pieces import LARGE_BYTES, Rest
from clawmail.store.queries import load
from clawmail.store.usage import became_read

#: References looked at when a thread is searched, newest first.
MAX_REFERENCES = 50

_sql = load("postings")

#: by message id: email id → thread id.
_Threads = dict[UUID, dict[UUID, UUID]]


async def _no_rest(_seconds: float) -> None:
    """Goes on at once."""


async def post(conn: Connection, postings: Sequence[Posting], rest: Rest = _no_rest) -> list[Posted | ClawmailError]:
    """Writes ``postings`` inside the caller's transaction; one result for each, in order.

    A result is an error (QuotaExceeded, or NotFound for an inbox that was removed meanwhile) when that posting was
    left out. ``rest`` is awaited between the pieces of a large message. Raises Conflict where somebody else has an
    Idempotency-Key by now; then nothing of the transaction may stay.
    """
    # Large ones ahead of their batch: they take longest, and nobody else's mail for the same inboxes waits for them.
    for posting in postings:
        if posting.message.size >= LARGE_BYTES:
            await pieces.write(conn, posting.message, rest)
    refusals: list[ClawmailError | None] = [None] * len(postings)
    accepted, threads = postings, None
    # An email that is answered may be locked only behind the inbox it is in, as everywhere.
    if not any(filing.answers for posting in postings for filing in posting.filings):
        threads = await _file(conn, postings)
    if threads is None:
        refusals = await _refusals(conn, postings)
        accepted = [posting for posting, refusal in zip(postings, refusals, strict=True) if refusal is None]
        await _take_back(conn, [p for p, refusal in zip(postings, refusals, strict=True) if refusal is not None])
        threads = await _file_locked(conn, accepted)
    await _keep_answers(conn, accepted)
    return [
        refusal if refusal is not None else Posted(posting.message.id, threads[posting.message.id])
        for posting, refusal in zip(postings, refusals, strict=True)
    ]


def is_plain(postings: Sequence[Posting]) -> bool:
    """Whether all that they write goes into one statement: small messages that answer nothing and keep no answer."""
    return not any(
        posting.idempotent_answer
        or posting.message.size >= LARGE_BYTES
        or any(filing.answers for filing in posting.filings)
        for posting in postings
    )


async def post_plain(conn: Connection, postings: Sequence[Posting], planned: list[Posted | ClawmailError]) -> bool:
    """Writes what ``is_plain`` outside of any transaction: it is committed when this returns.

    False, and nothing is written, where an inbox is gone or full: then it is for ``post`` to say which. ``planned`` is
    given the results before anything is written, for whoever hears no more of it.
    """
    batch, threads = await _decide_threads(conn, postings)
    planned += [Posted(posting.message.id, threads[posting.message.id]) for posting in postings]
    return await file(conn, batch)


async def is_stored(conn: Connection, message_id: UUID, backend: int) -> bool | None:
    """Whether a message is there, and so everything that was written with it.

    None: not yet, but PostgreSQL's process ``backend``, from which we heard no more, is still there.
    """
    # In this order: who has ended when we ask has committed before we look, or never will.
    there = await conn.fetchval(_sql.is_there, backend)
    return await is_filed(conn, message_id) or (None if there else False)


async def is_filed(conn: Connection, message_id: UUID) -> bool:
    """Whether a message is there now."""
    return bool(await conn.fetchval(_sql.is_stored, message_id))


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


async def _file(conn: Connection, postings: Sequence[Posting]) -> _Threads | None:
    """Files all of them, or writes nothing and returns None: an inbox is gone, or has no room for its share."""
    batch, threads = await _decide_threads(conn, postings)
    return threads if await file(conn, batch) else None


async def _file_locked(conn: Connection, postings: Sequence[Posting]) -> _Threads:
    """Files postings that were judged with their inboxes locked."""
    if not postings:
        return {}
    batch, threads = await _decide_threads(conn, postings)
    batch.bounded.clear()
    await _mark_answered(conn, batch)
    if not await file(conn, batch):
        raise RuntimeError("an inbox that is locked has gone")
    return threads


async def _take_back(conn: Connection, refused: Sequence[Posting]) -> None:
    if large := [posting.message.id for posting in refused if posting.message.size >= LARGE_BYTES]:
        await conn.execute(_sql.take_back_messages, large)


async def _decide_threads(conn: Connection, postings: Sequence[Posting]) -> tuple[Batch, _Threads]:
    """Finds each filing's thread by In-Reply-To, then References, inside its own inbox; else it opens one."""
    references = {posting.message.id: _reference_keys(posting.message) for posting in postings}
    known = await _known_threads(conn, postings, references)
    batch, threads = Batch(), _Threads()
    for posting in postings:
        message = posting.message
        if message.size < LARGE_BYTES:
            batch.messages.append(message)
        batch.events += posting.events
        batch.deliveries += [(message.id, delivery) for delivery in posting.deliveries]
        threads[message.id] = {}
        for filing in posting.filings:
            thread_id = filing.thread_id
            if thread_id is None:
                candidates = (known.get((filing.inbox_id, key)) for key in references[message.id])
                thread_id = next((thread for thread in candidates if thread is not None), None)
            if thread_id is None:
                thread_id = filing.new_thread_id or filing.email_id
            if message.rfc_message_id:
                known.setdefault((filing.inbox_id, message_key(message.rfc_message_id)), thread_id)
            threads[message.id][filing.email_id] = thread_id
            batch.add(posting, filing, thread_id)
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


async def _mark_answered(conn: Connection, batch: Batch) -> None:
    """Mail that a posting answers becomes read."""
    for _, filing, _ in batch.filed:
        if filing.answers is not None:
            answered = await conn.fetchrow(_sql.mark_answered, filing.answers, filing.inbox_id)
            if answered is not None:
                became_read(batch.usage[filing.inbox_id], answered["direction"], archived=answered["is_archived"])


async def _keep_answers(conn: Connection, postings: Sequence[Posting]) -> None:
    """Keeps the answers, or raises Conflict: somebody else does that request by now, and nothing must be written."""
    for posting in postings:
        if (answer := posting.idempotent_answer) is not None:
            row = (answer.inbox_id, answer.route, answer.key, answer.status, answer.answer, answer.claim)
            if await conn.fetchval(_sql.keep_answer, *row) is None:
                raise Conflict("A request with this Idempotency-Key is still in flight", code="idempotency_in_flight")
