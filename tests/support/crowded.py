"""A database as it is after years: thousands of tenants, tens of thousands of rows in every table that grows."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from clawmail.store.db import Connection
from tests.support.postgres import TestServer

#: tenants, each with a domain and an inbox; rows of the tables that grow with mail and with strangers.
TENANTS, ROWS = 10_000, 30_000
#: more organisations and inboxes, and one more domain and message, that nothing refers to: they can be deleted.
LONELY = 9
#: forwards that share one rewritten sender and recipient.
ALIKE = 10_000
#: what an id is of.
ORGANISATION, DOMAIN, INBOX, KEY, MESSAGE, THREAD, EMAIL, DELIVERY, EVENT, OTHER = range(10)

# As ``identifier`` makes them. Row n is n seconds old, and belongs to tenant n modulo their number.
_IDENTIFIER = """
CREATE FUNCTION uid(n integer, kind integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(1767225600000 + n), 12, '0') || '70008' || lpad(to_hex(kind), 3, '0')
            || left(md5(n::text), 12))::uuid
$$;
CREATE FUNCTION ago(n integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT now() - n * interval '1 s' $$;
"""
_OWNER = f"uid(n % {TENANTS}, {ORGANISATION}), uid(n % {TENANTS}, {DOMAIN})"
_OF_INBOX = f"{_OWNER}, uid(n % {TENANTS}, {INBOX})"
_SENT = "n % 2 = 0"

#: table, its columns, what row n has in them, how many.
_TABLES: tuple[tuple[str, str, str, int], ...] = (
    ("organisations", "id, name", f"uid(n, {ORGANISATION}), 'o'", TENANTS + LONELY),
    (
        "domains",
        "id, organisation_id, name, state, verification_value, pending_until, verified_at, removed_at",
        f"uid(n, {DOMAIN}), uid(n, {ORGANISATION}), 'd' || n || '.test',"
        " CASE WHEN n % 10 = 9 THEN 'pending' ELSE 'verified' END, 'v', ago(n), now(),"
        " CASE WHEN n % 10 = 8 THEN now() END",
        TENANTS + 1,
    ),
    (
        "inboxes",
        "id, organisation_id, domain_id, local_part, address, storage_quota_bytes, removed_at",
        f"uid(n, {INBOX}), {_OWNER}, 'a', 'a@d' || n || '.test', 1000, CASE WHEN n % 10 = 8 THEN now() END",
        TENANTS + LONELY,
    ),
    ("inbox_usage", "inbox_id", f"uid(n, {INBOX})", TENANTS),
    (
        "dkim_keys",
        "id, domain_id, selector, algorithm, private_sealed, public_record, state",
        f"uid(n, {OTHER}), uid(n, {DOMAIN}), 's', 'rsa-sha256', '', '', 'active'",
        TENANTS,
    ),
    (
        "forwarding_rules",
        "id, organisation_id, domain_id, match_field, regex_pattern, destination_email",
        f"uid(n, {OTHER}), {_OWNER}, 'to', 'x', 'b@c.test'",
        TENANTS,
    ),
    (
        "sender_rules",
        "id, organisation_id, domain_id, inbox_id, verdict, sender, created_at",
        f"uid(n, {OTHER}), {_OF_INBOX}, 'allow', 's' || n, now()",
        ROWS,
    ),
    (
        "access_keys",
        "id, organisation_id, domain_id, kind, prefix, secret_hash, expires_at",
        f"uid(n, {KEY}), {_OWNER}, CASE WHEN {_SENT} THEN 'creation' ELSE 'domain' END, 'cm_' || n, '', ago(n)",
        ROWS,
    ),
    (
        "messages",
        "id, raw, raw_sha256, raw_size, trace, rfc_message_id, reference_ids, subject, from_address, from_name,"
        " envelope_from, to_addresses, cc_addresses, bcc_addresses, reply_to, body_text, attachments, received_at",
        f"uid(n, {MESSAGE}), 'x', 'x', 1, '', '<' || n || '@x>', '{{}}', 's', 'a@b', '', 'a@b', '{{}}', '{{}}', '{{}}',"
        " '{}', repeat('text ', 50), '[]', now()",
        ROWS + 1,
    ),
    ("message_pieces", "message_id, number, octets", f"uid(n, {MESSAGE}), 0, 'x'", ROWS),
    (
        "threads",
        "id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at, last_direction,"
        " last_email_id, message_count, has_attachments",
        f"uid(n, {THREAD}), {_OF_INBOX}, 's', '', now(), now(), 'inbound', uid(n, {EMAIL}), 1, false",
        ROWS,
    ),
    (
        "emails",
        "id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, is_archived, size,"
        " message_key, created_at",
        f"uid(n, {EMAIL}), {_OF_INBOX}, uid(n, {MESSAGE}), uid(n, {THREAD}),"
        f" CASE WHEN {_SENT} THEN 'outbound' ELSE 'inbound' END, true, false, 1, uid(n, {OTHER}), now()",
        ROWS,
    ),
    (
        "deliveries",
        "id, organisation_id, domain_id, inbox_id, email_id, message_id, kind, envelope_from, recipient, destination,"
        " state, attempts, next_attempt_at, created_at, settled_at, notice",
        f"uid(n, {DELIVERY}), {_OF_INBOX}, CASE WHEN {_SENT} THEN uid(n, {EMAIL}) END, uid(n, {MESSAGE}),"
        f" CASE WHEN {_SENT} THEN 'send' ELSE 'forward' END, 'srs' || n % 50 || '@d.test',"
        " CASE WHEN n % 50 = 1 THEN 'Bob' ELSE 'r' || n END || '@c.test', 'd' || n % 500 || '.test',"
        " CASE WHEN n % 1000 = 0 THEN 'queued' ELSE 'delivered' END, 1, ago(n), ago(n),"
        " CASE WHEN n % 1000 > 0 THEN ago(n) END, CASE WHEN n % 1000 = 7 THEN 'failed' END",
        ROWS,
    ),
    (
        "webhooks",
        "id, organisation_id, domain_id, inbox_id, key_id, url, event_types, secret_sealed, created_at, removed_at",
        f"uid(n, {OTHER}), {_OF_INBOX}, uid(n, {KEY}), 'https://a.test', '{{}}', '', now(),"
        " CASE WHEN n % 10 = 8 THEN ago(n) END",
        TENANTS,
    ),
    (
        "events",
        "id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, detail, at",
        f"uid(n, {EVENT}), {_OF_INBOX}, uid(n, {EMAIL}), uid(n, {DELIVERY}), 'delivered', '{{}}', now()",
        ROWS,
    ),
    (
        "suppressions",
        "id, organisation_id, domain_id, address, reason, active, expires_at",
        f"uid(n, {OTHER}), {_OWNER}, 'r' || n || '@c.test', 'soft bounces', n % 3 = 0, ago(n)",
        ROWS,
    ),
    (
        "idempotency_keys",
        "inbox_id, route, key, body_sha256, created_at",
        f"uid(n % {TENANTS}, {INBOX}), 'send', 'k' || n, '', ago(n)",
        ROWS,
    ),
    ("greylist", "triplet, first_seen_at, last_seen_at", "sha256(n::text::bytea), ago(n), ago(n)", ROWS),
    ("greylist_networks", "network, passes, last_seen_at", "'n' || n, 1, ago(n)", ROWS),
    (
        "destinations",
        "name, site, parked_until, paused_at, updated_at",
        "'d' || n || '.test', 'd' || n % 100 || '.test', CASE WHEN n % 1000 = 1 THEN ago(n) END,"
        " CASE WHEN n % 1000 = 2 THEN now() END, ago(n)",
        ROWS,
    ),
    (
        "mta_sts_policies",
        "domain, policy_id, policy, fetched_at, expires_at",
        "'d' || n || '.test', 'i', 'p', now(), ago(n)",
        ROWS,
    ),
    (
        "tls_results",
        "day, policy_domain, policy_type, mx_host, result, sessions",
        "current_date - n % 30, 'd' || n || '.test', 'sts', 'm', 'successful', 1",
        ROWS,
    ),
    ("leftover_messages", "message_id", f"uid(n, {MESSAGE})", ROWS),
    ("domain_retention", "domain_id", f"uid(n, {DOMAIN})", TENANTS),
)
# Events brought a row for each webhook that listens. One in 256 still waits.
_TOLD = """
UPDATE webhook_deliveries SET state = 'delivered', settled_at = ago(100 * get_byte(uuid_send(event_id), 14))
WHERE get_byte(uuid_send(event_id), 15) > 0
"""
_FORWARDS_ALIKE = f"""
INSERT INTO deliveries (id, organisation_id, domain_id, message_id, kind, envelope_from, recipient, destination, state,
                        next_attempt_at, created_at, settled_at)
SELECT uid({ROWS} + n, {DELIVERY}), uid(1, {ORGANISATION}), uid(1, {DOMAIN}), uid(1, {MESSAGE}), 'forward',
       'srs@d.test', CASE WHEN n <= 2 THEN 'other' || n ELSE 'Boss' END || '@c.test', 'c.test', 'delivered', now(),
       now(), now()
FROM generate_series(1, {ALIKE}) AS n
"""


def identifier(n: int, kind: int) -> UUID:
    """The id of row ``n`` of a kind."""
    return UUID(f"{1767225600000 + n:012x}70008{kind:03x}{hashlib.md5(str(n).encode()).hexdigest()[:12]}")


@dataclass(frozen=True)
class Crowd:
    """Such a database."""

    conn: Connection
    url: str

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Somebody sees the database as it is now for the time of the block, as a backup does."""
        reader = await asyncpg.connect(self.url)
        try:
            async with reader.transaction(isolation="repeatable_read"):
                await reader.execute("SELECT FROM organisations LIMIT 1")
                yield
        finally:
            await reader.close()


@asynccontextmanager
async def crowded(postgres: TestServer) -> AsyncIterator[Crowd]:
    """Makes one; it is dropped after the block."""
    url = await postgres.create()
    conn = await asyncpg.connect(url, command_timeout=120)
    try:
        await conn.execute(_IDENTIFIER)
        for table, columns, values, rows in _TABLES:
            await conn.execute(
                f"INSERT INTO {table} ({columns}) SELECT {values} FROM generate_series(0, {rows - 1}) AS n"
            )
        await conn.execute(_TOLD)
        await conn.execute(_FORWARDS_ALIKE)
        await conn.execute("VACUUM ANALYZE")
        yield Crowd(conn, url)
    finally:
        await conn.close()
        await postgres.drop(url)
