"""Export and import: an inbox leaves as a whole, and comes back as it was; nobody is locked in.

An import may be cut off and started again, and an archive may be imported twice: an email whose bytes, Message-ID and
direction the inbox holds already is skipped. What is imported takes the same way into the store as mail that arrives,
so threads and counts come about in the same way, and it gets the place in lists that its date gives it. It is filed
and nothing else: no rule, no event, no delivery.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from clawmail.base.errors import NotFound, QuotaExceeded
from clawmail.base.ids import id_at
from clawmail.core.archive.entry import Kept
from clawmail.core.archive.files import Unreadable
from clawmail.core.described import described
from clawmail.model.mail import Direction, Filing, Message, Posting, sender_warning
from clawmail.model.tenancy import Inbox
from clawmail.protocol.mime.parse import ParsedMessage, parse_message
from clawmail.store import archive as store
from clawmail.store import directory, mailbox, postings
from clawmail.store.db import Connection, Database

#: emails looked up, and filed, in one go.
BATCH = 64
#: octets of messages in memory at once, unless one alone is larger.
BATCH_BYTES = 8 * 1024 * 1024
#: problems of an import that are told one by one.
MAX_PROBLEMS = 100

Told = Callable[[int], None]


@dataclass(slots=True)
class Imported:
    """What became of an archive's emails."""

    imported: int = 0
    #: the inbox held them already.
    skipped: int = 0
    failed: int = 0
    #: octets that were filed.
    bytes: int = 0
    #: the first of those that failed.
    problems: list[Unreadable] = field(default_factory=list)

    @property
    def seen(self) -> int:
        """How many emails were looked at."""
        return self.imported + self.skipped + self.failed

    def fail(self, problem: Unreadable) -> None:
        """Counts one that cannot be imported."""
        self.failed += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class _Draft:
    """An email on its way in."""

    kept: Kept
    message: Message
    digest: bytes
    #: its number in the archive: what has no better order keeps this one.
    number: int

    @property
    def direction(self) -> Direction:
        return self.kept.direction


class Archive:
    """Takes inboxes out of the store and brings them in."""

    def __init__(self, db: Database, *, told: Told = lambda _: None) -> None:
        """``told`` hears how many emails are done."""
        self._db = db
        self._told = told

    async def inbox(self, address: str) -> tuple[Inbox, int]:
        """The inbox of an address, and how many emails it has. Raises NotFound."""
        async with self._db.connection() as conn:
            inbox = await directory.inbox(conn, address)
            if inbox is None:
                raise NotFound(f"There is no inbox {address}; clawmail inbox add {address} makes one")
            return inbox, await store.count(conn, inbox.id)

    async def take_out(self, inbox: Inbox, add: Callable[[Kept], None]) -> int:
        """Hands every email of an inbox to ``add``, oldest first; returns how many there were."""
        done, last = 0, None
        while True:
            async with self._db.connection() as conn:
                page = await store.next_emails(conn, inbox.id, last, BATCH)
            if not page:
                return done
            for portion in _portions(page):
                async with self._db.connection() as conn:
                    found = await store.emails(conn, inbox.id, portion)
                kept = [_kept(email) for email in found]
                await asyncio.to_thread(_add_all, add, kept)
                done += len(kept)
                self._told(done)
            last = page[-1][0]

    async def bring_in(self, inbox: Inbox, entries: Iterator[Kept | Unreadable]) -> Imported:
        """Files every email that the inbox does not hold. Raises Invalid, or QuotaExceeded when it is full."""
        result = Imported()
        numbers = itertools.count()
        while batch := await asyncio.to_thread(_take, entries, numbers):
            for entry in batch:
                if isinstance(entry, Unreadable):
                    result.fail(entry)
            drafts = [entry for entry in batch if isinstance(entry, _Draft)]
            await self._file(inbox, drafts, result)
            self._told(result.seen)
        return result

    async def _file(self, inbox: Inbox, drafts: list[_Draft], result: Imported) -> None:
        """One transaction: what is not known is filed and marked as it was."""
        if not drafts:
            return
        full: QuotaExceeded | None = None
        async with self._db.transaction() as conn:
            if not await store.lock(conn, inbox.id):
                raise NotFound(f"The inbox {inbox.address} was removed")
            fresh = await _unknown(conn, inbox, drafts)
            posted = await postings.post(conn, [_posting(inbox, draft) for draft in fresh]) if fresh else []
            for draft, answer in zip(fresh, posted, strict=True):
                if isinstance(answer, QuotaExceeded):
                    full = answer
                elif isinstance(answer, Exception):
                    raise answer
                else:
                    result.imported += 1
                    result.bytes += draft.message.size
                    if draft.kept.is_archived:
                        (email_id,) = answer.threads
                        await mailbox.set_flags(conn, inbox.id, email_id, is_archived=True)
        result.skipped += len(drafts) - len(fresh)
        if full is not None:
            raise QuotaExceeded(
                f"{inbox.address} is full after {result.imported} emails: raise its quota (clawmail inbox quota"
                f" {inbox.address} SIZE) and import again; what is there already is skipped"
            )


async def _unknown(conn: Connection, inbox: Inbox, drafts: list[_Draft]) -> list[_Draft]:
    known = await store.known(conn, inbox.id, [(draft.message, draft.direction, draft.digest) for draft in drafts])
    fresh: dict[tuple[bytes, Direction], _Draft] = {}
    for place, draft in enumerate(drafts):
        if place not in known:
            fresh.setdefault((draft.digest, draft.direction), draft)
    return list(fresh.values())


def _portions(page: list[tuple[UUID, int]]) -> Iterator[list[UUID]]:
    portion: list[UUID] = []
    room = BATCH_BYTES
    for email_id, size in page:
        if portion and size > room:
            yield portion
            portion, room = [], BATCH_BYTES
        portion.append(email_id)
        room -= size
    if portion:
        yield portion


def _add_all(add: Callable[[Kept], None], emails: list[Kept]) -> None:
    for email in emails:
        add(email)


def _take(entries: Iterator[Kept | Unreadable], numbers: Iterator[int]) -> list[_Draft | Unreadable]:
    """The next emails of an archive, each read as if it arrived; none at its end."""
    batch: list[_Draft | Unreadable] = []
    size = 0
    for entry in itertools.islice(entries, BATCH):
        number = next(numbers)
        draft = entry if isinstance(entry, Unreadable) else _draft(entry, number)
        batch.append(draft)
        size += draft.message.size if isinstance(draft, _Draft) else 0
        if size > BATCH_BYTES:
            break
    return batch


def _kept(email: store.ArchivedEmail) -> Kept:
    return Kept(
        received_at=email.received_at,
        direction=email.direction,
        is_read=email.is_read,
        is_archived=email.is_archived,
        envelope_from=email.envelope_from,
        bcc=tuple(email.bcc_addresses),
        authentication=None if email.authentication is None else msgspec.json.decode(email.authentication),
        message_id=email.message_id,
        subject=email.subject,
        trace=email.trace,
        raw=email.raw,
    )


def _draft(kept: Kept, number: int) -> _Draft | Unreadable:
    """What the store will keep of it."""
    known_texts = (kept.envelope_from or "", *kept.bcc, msgspec.json.encode(kept.authentication).decode())
    if any("\0" in text or "\\u0000" in text for text in known_texts):
        return Unreadable(f"message {number + 1}", "what is said of it holds a NUL")
    parsed = parse_message(kept.raw)
    return _Draft(kept, _message(kept, parsed), hashlib.sha256(kept.raw).digest(), number)


def _message(kept: Kept, parsed: ParsedMessage) -> Message:
    author = parsed.from_.address if parsed.from_ else ""
    envelope_from = author if kept.envelope_from is None else kept.envelope_from
    moment = kept.received_at or parsed.date or datetime.now(UTC)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    outbound = kept.direction == "outbound"
    return Message(
        id=id_at(moment),
        raw=kept.raw,
        trace=kept.trace,
        rfc_message_id=parsed.message_id,
        in_reply_to=parsed.in_reply_to,
        reference_ids=parsed.references,
        subject=parsed.subject or "",
        from_address=author or envelope_from,
        from_name=parsed.from_.name if parsed.from_ else "",
        envelope_from=envelope_from,
        sender_warning=None if outbound else sender_warning(author, envelope_from),
        to_addresses=tuple(box.address for box in parsed.to if box.address),
        cc_addresses=tuple(box.address for box in parsed.cc if box.address),
        bcc_addresses=kept.bcc,
        reply_to=tuple(box.address for box in parsed.reply_to if box.address),
        body_text=parsed.text,
        body_html=parsed.html,
        attachments=described(parsed),
        authentication=None if outbound else kept.authentication,
        received_at=moment,
        notes=parsed.notes,
    )


def _posting(inbox: Inbox, draft: _Draft) -> Posting:
    filing = Filing(
        id_at(draft.message.received_at, draft.number),
        inbox.organisation_id,
        inbox.domain_id,
        inbox.id,
        draft.direction,
        is_read=draft.kept.is_read,
    )
    return Posting(draft.message, (filing,))
