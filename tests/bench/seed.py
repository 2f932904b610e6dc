"""A store with much in it: rows copied straight into the tables, as many a second as PostgreSQL takes.

The texts of the mail are those of ``tests.bench.mail``; its raw bytes are left out where nobody reads them, because a
million times 5 KB would measure the patience of the reader. Ids and times lie in the past, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from clawmail.base.ids import id_at, new_id
from tests.bench import mail
from tests.support.mail import AUTHENTICATION

#: what is brought in began so long ago and is spread evenly over that time, less a day.
AGE = timedelta(days=365)
#: emails of one conversation.
THREAD_EMAILS = 4
#: of these one is unread.
UNREAD_OF = 10

MESSAGES = (
    "id raw raw_sha256 raw_size trace rfc_message_id in_reply_to reference_ids subject from_address from_name"
    " envelope_from to_addresses cc_addresses bcc_addresses reply_to body_text body_html attachments authentication"
    " received_at"
)
EMAILS = "id organisation_id domain_id inbox_id message_id thread_id direction is_read is_archived size created_at"
THREADS = (
    "id organisation_id domain_id inbox_id subject snippet first_message_at last_message_at last_direction"
    " last_email_id message_count has_attachments"
)
DELIVERIES = (
    "id organisation_id domain_id inbox_id message_id kind envelope_from recipient destination state next_attempt_at"
    " created_at"
)

OWNER = "SELECT organisation_id, domain_id, id FROM inboxes WHERE address = $1 AND removed_at IS NULL"
COUNTS = """
    UPDATE inbox_usage u SET used_bytes = s.size, read = s.read, unread = s.unread, inbound_unread = s.unread
    FROM (SELECT inbox_id, sum(size) AS size, count(*) FILTER (WHERE is_read) AS read,
                 count(*) FILTER (WHERE NOT is_read) AS unread FROM emails GROUP BY inbox_id) s
    WHERE u.inbox_id = s.inbox_id
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a row is."""

    organisation_id: UUID
    domain_id: UUID
    inbox_id: UUID


async def owner_of(connection: asyncpg.Connection, address: str) -> Owner:
    """The owner of an inbox."""
    return Owner(*await connection.fetchrow(OWNER, address))


async def add_owners(connection: asyncpg.Connection, domains: int, inboxes: int) -> list[Owner]:
    """``domains`` domains of as many organisations, with ``inboxes`` inboxes on them."""
    now = datetime.now(UTC)
    homes = [(new_id(), new_id(), f"tenant{number}.bench") for number in range(domains)]
    owners = [Owner(*homes[number % domains][:2], new_id()) for number in range(inboxes)]

    async def copy(table: str, columns: str, records: Iterator[tuple[Any, ...]]) -> None:
        await connection.copy_records_to_table(table, columns=columns.split(), records=records)

    await copy("organisations", "id name", ((home[0], home[2]) for home in homes))
    await copy(
        "domains",
        "id organisation_id name state verification_value trusted verified_at",
        ((domain, organisation, name, "verified", "", True, now) for organisation, domain, name in homes),
    )
    await copy(
        "inboxes",
        "id organisation_id domain_id local_part address storage_quota_bytes",
        (
            (one.inbox_id, one.organisation_id, one.domain_id, f"box{n}", f"box{n}@{homes[n % domains][2]}", 1 << 40)
            for n, one in enumerate(owners)
        ),
    )
    await copy("inbox_usage", "inbox_id", ((owner.inbox_id,) for owner in owners))
    return owners


async def add_mail(connection: asyncpg.Connection, owners: Sequence[Owner], count: int, *, text_bytes: int) -> None:
    """``count`` received emails, dealt out to ``owners`` one after the other, in threads; and the kept counts."""
    step = (AGE - timedelta(days=1)) / count
    start = datetime.now(UTC) - AGE
    moments = [start + number * step for number in range(count)]
    ids = [id_at(moment) for moment in moments]
    threads = [id_at(moment) for moment in moments[:: THREAD_EMAILS * len(owners)] for _ in owners]
    await connection.copy_records_to_table(
        "messages", columns=MESSAGES.split(), records=_messages(ids, moments, text_bytes), timeout=3600
    )
    await connection.copy_records_to_table(
        "threads", columns=THREADS.split(), records=_threads(owners, threads, ids, moments), timeout=3600
    )
    await connection.copy_records_to_table(
        "emails", columns=EMAILS.split(), records=_emails(owners, threads, ids, moments), timeout=3600
    )
    await connection.execute(COUNTS, timeout=3600)
    await connection.execute("VACUUM ANALYZE", timeout=3600)


def _messages(ids: Sequence[UUID], moments: Sequence[datetime], text_bytes: int) -> Iterator[tuple[Any, ...]]:
    text, html = mail.texts(text_bytes)
    authentication, digest = json.dumps(AUTHENTICATION), bytes(32)
    for number, (one, moment) in enumerate(zip(ids, moments, strict=True)):
        yield (
            *(one, b"", digest, mail.SIZE, b"", f"<{number}@{mail.SENDER_DOMAIN}>", None, [], f"Bench {number}"),
            *(mail.SENDER, "News", mail.SENDER, [mail.RECIPIENT], [], [], [], text, html, "[]", authentication, moment),
        )


def _home(owners: Sequence[Owner], number: int) -> tuple[UUID, UUID, UUID]:
    owner = owners[number % len(owners)]
    return owner.organisation_id, owner.domain_id, owner.inbox_id


def _thread_of(owners: Sequence[Owner], number: int) -> int:
    """Which thread the email ``number`` is in: ``THREAD_EMAILS`` rounds of dealing make a thread for each owner."""
    return number // (THREAD_EMAILS * len(owners)) * len(owners) + number % len(owners)


def _emails(
    owners: Sequence[Owner], threads: Sequence[UUID], ids: Sequence[UUID], moments: Sequence[datetime]
) -> Iterator[tuple[Any, ...]]:
    for number, (one, moment) in enumerate(zip(ids, moments, strict=True)):
        thread = threads[_thread_of(owners, number)]
        read = number % UNREAD_OF != 0
        yield (one, *_home(owners, number), one, thread, "inbound", read, False, mail.SIZE, moment)


def _threads(
    owners: Sequence[Owner], threads: Sequence[UUID], ids: Sequence[UUID], moments: Sequence[datetime]
) -> Iterator[tuple[Any, ...]]:
    for number, thread in enumerate(threads):
        first = number // len(owners) * THREAD_EMAILS * len(owners) + number % len(owners)
        members = range(first, min(len(ids), first + THREAD_EMAILS * len(owners)), len(owners))
        if not members:
            return
        last = members[-1]
        yield (
            *(thread, *_home(owners, number), f"Bench {first}", "words", moments[first], moments[last]),
            *("inbound", ids[last], len(members), False),
        )


async def add_queue(
    connection: asyncpg.Connection,
    owners: Sequence[Owner],
    count: int,
    destinations: Sequence[str],
    raw: bytes,
    *,
    state: str = "queued",
) -> None:
    """``count`` due deliveries of ``raw``, each a message of its own, dealt out to owners and destinations."""
    start = datetime.now(UTC) - timedelta(hours=1)
    ids = [id_at(start + timedelta(microseconds=250 * number)) for number in range(count)]
    sha256, now = bytes(32), datetime.now(UTC)
    fields: tuple[Any, ...] = ("Bench", mail.RECIPIENT, "", mail.RECIPIENT, [], [], [], [], None, None, "[]", None, now)
    messages: Iterator[tuple[Any, ...]] = ((one, raw, sha256, len(raw), b"", None, None, [], *fields) for one in ids)
    await connection.copy_records_to_table("messages", columns=MESSAGES.split(), records=messages, timeout=3600)
    deliveries = (
        (
            *(one, *_home(owners, number), one, "send", mail.RECIPIENT),
            *(f"user{number}@{destinations[number % len(destinations)]}", destinations[number % len(destinations)]),
            *(state, start, start),
        )
        for number, one in enumerate(ids)
    )
    await connection.copy_records_to_table("deliveries", columns=DELIVERIES.split(), records=deliveries, timeout=3600)
    await connection.execute("ANALYZE", timeout=3600)
