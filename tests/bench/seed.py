"""A store with much in it: rows made by PostgreSQL itself, as many a second as it writes.

The texts of the mail are those of ``tests.bench.mail``; its raw bytes are left out where nobody reads them, because a
million times 5 KB would measure the patience of the reader. Ids and times lie in the past, one after the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
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
#: for so long events are kept.
EVENT_AGE = timedelta(days=90)
#: emails of one conversation.
THREAD_EMAILS = 4
#: of these one is unread.
UNREAD_OF = 10
#: emails of one statement: often enough for progress to be seen.
CHUNK = 200_000
#: seconds that one statement may take.
PATIENCE = 3600

MESSAGES = (
    "id raw raw_sha256 raw_size trace rfc_message_id in_reply_to reference_ids subject from_address from_name"
    " envelope_from to_addresses cc_addresses bcc_addresses reply_to body_text body_html attachments authentication"
    " received_at"
)
DELIVERIES = (
    "id organisation_id domain_id inbox_id message_id kind envelope_from recipient destination state next_attempt_at"
    " created_at"
)

OWNER = "SELECT organisation_id, domain_id, id FROM inboxes WHERE address = $1 AND removed_at IS NULL"

#: emails are numbered from 0 on and dealt out to the owners one after the other; email n has its moment, and an id of
#: that moment (UUIDv7) that ends in n. ``salt`` keeps what two calls make apart. Inlined by the planner.
NUMBERING = """
CREATE TEMP TABLE bench_owners (number bigint, organisation_id uuid, domain_id uuid, inbox_id uuid);
CREATE FUNCTION pg_temp.moment(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
    RETURN to_timestamp({start!r} + n * {step!r});
CREATE FUNCTION pg_temp.id_of(kind text, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
    RETURN (lpad(to_hex((({start!r} + n * {step!r}) * 1000)::bigint), 12, '0') || '7{salt}8' || kind
            || lpad(to_hex(n), 14, '0'))::uuid;
CREATE FUNCTION pg_temp.name(n bigint) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN '<{salt}.' || n || '@{domain}>';
"""
FORGET_NUMBERING = """
DROP TABLE bench_owners;
DROP FUNCTION pg_temp.moment, pg_temp.id_of, pg_temp.name
"""
#: $1 first number, $2 last; $3 how many owners; $4 emails of a thread.
ADD_EMAILS = f"""
INSERT INTO emails (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, is_archived,
                    size, message_key, created_at)
SELECT pg_temp.id_of('e', n), o.organisation_id, o.domain_id, o.inbox_id, pg_temp.id_of('e', n),
       pg_temp.id_of('d', n / ($4 * $3) * ($4 * $3) + n % $3), 'inbound', n % {UNREAD_OF} <> 0, false, {mail.SIZE},
       left(encode(sha256(convert_to(pg_temp.name(n), 'UTF8')), 'hex'), 32)::uuid, pg_temp.moment(n)
FROM generate_series($1::bigint, $2::bigint) n JOIN bench_owners o ON o.number = n % $3::bigint
"""
#: a thread has the number of its first email; $5 how many emails there are in all.
ADD_THREADS = """
INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                     last_direction, last_email_id, message_count, has_attachments)
SELECT pg_temp.id_of('d', n), o.organisation_id, o.domain_id, o.inbox_id, 'Bench ' || n, 'words',
       pg_temp.moment(n), pg_temp.moment(n + (emails - 1) * $3), 'inbound', pg_temp.id_of('e', n + (emails - 1) * $3),
       emails, false
FROM (SELECT n, least($4, 1 + ($5 - 1 - n) / $3) AS emails
      FROM generate_series($1::bigint, $2::bigint) n WHERE n / $3::bigint % $4::bigint = 0) first
JOIN bench_owners o ON o.number = n % $3
"""
#: events go before the mail does; $4 is the first email whose event is still there.
ADD_EVENTS = f"""
INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, type, detail, at)
SELECT pg_temp.id_of('f', n), o.organisation_id, o.domain_id, o.inbox_id, pg_temp.id_of('e', n), 'received',
       '{json.dumps({"from": mail.SENDER, "ip": "127.0.0.1", "size": mail.SIZE, "tls": None, "dmarc": "pass"})}',
       pg_temp.moment(n)
FROM generate_series(greatest($1::bigint, $4::bigint), $2::bigint) n JOIN bench_owners o ON o.number = n % $3::bigint
"""
#: $3 digest, $4 text, $5 HTML, $6 authentication.
ADD_MESSAGES = f"""
INSERT INTO messages ({MESSAGES.replace(" ", ", ")})
SELECT pg_temp.id_of('e', n), '', $3, {mail.SIZE}, '', pg_temp.name(n), NULL, '{{}}', 'Bench ' || n,
       '{mail.SENDER}', 'News', '{mail.SENDER}', '{{{mail.RECIPIENT}}}', '{{}}', '{{}}', '{{}}', $4, $5,
       '[]', $6, pg_temp.moment(n)
FROM generate_series($1::bigint, $2::bigint) n
"""
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


async def add_mail(
    connection: asyncpg.Connection,
    owners: Sequence[Owner],
    count: int,
    *,
    text_bytes: int,
    progress: Callable[[int], None] = lambda _done: None,
) -> None:
    """``count`` received emails, dealt out to ``owners`` one after the other, in threads; and the kept counts.

    ``progress`` hears how many there are so far.
    """
    start = (datetime.now(UTC) - AGE).timestamp()
    step = (AGE - timedelta(days=1)).total_seconds() / count
    await connection.execute(
        NUMBERING.format(start=start, step=step, salt=secrets.token_hex(2)[:3], domain=mail.SENDER_DOMAIN)
    )
    numbered = ((number, one.organisation_id, one.domain_id, one.inbox_id) for number, one in enumerate(owners))
    await connection.copy_records_to_table("bench_owners", records=numbered, timeout=PATIENCE)
    await connection.execute("ANALYZE bench_owners")
    told = int(count * (1 - EVENT_AGE / AGE))
    dealt, words = (len(owners), THREAD_EMAILS), (bytes(32), *mail.texts(text_bytes), json.dumps(AUTHENTICATION))
    for first in range(0, count, CHUNK):
        some = first, min(first + CHUNK, count) - 1
        await connection.execute(ADD_MESSAGES, *some, *words, timeout=PATIENCE)
        await connection.execute(ADD_EMAILS, *some, *dealt, timeout=PATIENCE)
        await connection.execute(ADD_THREADS, *some, *dealt, count, timeout=PATIENCE)
        await connection.execute(ADD_EVENTS, *some, len(owners), told, timeout=PATIENCE)
        progress(some[1] + 1)
    await connection.execute(FORGET_NUMBERING)
    await connection.execute(COUNTS, timeout=PATIENCE)
    await connection.execute("VACUUM ANALYZE", timeout=PATIENCE)


def _home(owners: Sequence[Owner], number: int) -> tuple[UUID, UUID, UUID]:
    owner = owners[number % len(owners)]
    return owner.organisation_id, owner.domain_id, owner.inbox_id


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
    await connection.copy_records_to_table("messages", columns=MESSAGES.split(), records=messages, timeout=PATIENCE)
    deliveries = (
        (
            *(one, *_home(owners, number), one, "send", mail.RECIPIENT),
            *(f"user{number}@{destinations[number % len(destinations)]}", destinations[number % len(destinations)]),
            *(state, start, start),
        )
        for number, one in enumerate(ids)
    )
    await connection.copy_records_to_table(
        "deliveries", columns=DELIVERIES.split(), records=deliveries, timeout=PATIENCE
    )
    await connection.execute("ANALYZE", timeout=PATIENCE)
