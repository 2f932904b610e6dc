"""How long a backup, the next one, a restore and a verification take: ``python -m tests.bench.backup --messages N``.

The mail is spread over thirty days and ten inboxes, about 5 KB a message, in the embedded PostgreSQL as it is shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import asyncpg

from clawmail.core import backup
from clawmail.core.backup_files import BackupDirectory
from clawmail.core.verify import Verifier
from clawmail.store.db import Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.support.tenants import add_inbox, add_tenant

T = TypeVar("T")
INBOXES = 10
DAYS = 30

#: ids are version 7, at equal distances over the days; $1 first number, $2 last, $3 distance in milliseconds.
MESSAGES = """
INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, rfc_message_id, reference_ids, subject, from_address,
                      from_name, envelope_from, to_addresses, cc_addresses, bcc_addresses, reply_to, body_text,
                      attachments, received_at)
SELECT id, raw, sha256(raw), octet_length(raw), '', '<' || n || '@bench.test>', '{}', 'Message ' || n,
       's@bench.test', '', 's@bench.test', '{agent@bench.test}', '{}', '{}', '{}', 'hello ' || n, '[]', at
FROM (
    SELECT n, at,
           convert_to('Subject: ' || n || E'\\r\\n\\r\\n' || repeat(md5(n::text) || E'\\r\\n', 150), 'UTF8') AS raw,
           (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5('a' || n), 1, 3)
            || '8' || substr(md5('b' || n), 1, 15))::uuid AS id
    FROM (
        SELECT n, date_trunc('day', now()) - interval '1 day' - n * $3::float8 * interval '1 millisecond' AS at
        FROM generate_series($1::bigint, $2::bigint) n
    ) numbered
) made
"""
EMAILS = """
INSERT INTO emails (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, is_archived,
                    size, message_key, created_at)
SELECT m.id, i.organisation_id, i.domain_id, i.id, m.id, m.id, 'inbound', false, false, m.raw_size,
       left(encode(sha256(convert_to(m.rfc_message_id, 'UTF8')), 'hex'), 32)::uuid, m.received_at
FROM messages m
JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS place FROM inboxes) i
  ON i.place = abs(hashtext(m.id::text)::bigint) % $1
"""
THREADS = """
INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                     last_direction, last_email_id, message_count, has_attachments)
SELECT e.id, e.organisation_id, e.domain_id, e.inbox_id, m.subject, m.body_text, m.received_at, m.received_at,
       'inbound', e.id, 1, false
FROM emails e JOIN messages m ON m.id = e.message_id
"""
USAGE = """
UPDATE inbox_usage u SET used_bytes = s.bytes, unread = s.emails, inbound_unread = s.emails
FROM (SELECT inbox_id, sum(size) AS bytes, count(*) AS emails FROM emails GROUP BY 1) s WHERE s.inbox_id = u.inbox_id
"""


async def fill(url: str, messages: int) -> None:
    """Writes the mail, with everything that is derived from it."""
    db = Database(url)
    await db.open()
    tenant = await add_tenant(db, "bench.test")
    for number in range(INBOXES - 1):
        await add_inbox(db, tenant.domain, f"inbox{number}", quota=1 << 40)
    await db.close()
    connection = await asyncpg.connect(url, command_timeout=3600)
    distance = DAYS * 86_400_000 / messages
    for first in range(0, messages, 20_000):
        await connection.execute(MESSAGES, first, min(first + 20_000, messages) - 1, distance)
    await connection.execute(EMAILS, INBOXES)
    await connection.execute(THREADS)
    await connection.execute(USAGE)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def timed(what: str, work: Awaitable[T], messages: int) -> T:
    """Runs ``work`` and says how long it took."""
    began = time.monotonic()
    result = await work
    seconds = time.monotonic() - began
    print(f"{what:32} {seconds:8.1f} s {messages / seconds:12,.0f} messages/s", flush=True)
    return result


async def verified(url: str) -> int:
    """How many problems there are."""
    db = Database(url)
    await db.open()
    problems = [problem async for problem in Verifier(db).run()]
    await db.close()
    return len(problems)


async def run(messages: int, key: bytes | None) -> None:
    """One round on a server of its own."""
    directory = Path(tempfile.mkdtemp(prefix="clawmail-bench-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory)
    try:
        await server.start()
        await migrate(server.url)
        await timed("filled", fill(server.url, messages), messages)
        files = BackupDirectory(directory / "backup", key)
        taken = await timed("backup", backup.take(server.url, files, datetime.now(UTC)), messages)
        print(f"  {taken.files} files, {taken.bytes / 1e6:,.0f} MB", flush=True)
        again = await timed("backup again", backup.take(server.url, files, datetime.now(UTC)), messages)
        print(f"  {again.kept} of {again.files} files left as they were", flush=True)
        connection = await asyncpg.connect(server.url)
        await connection.execute("CREATE DATABASE restored")
        await connection.close()
        url = server.url.replace("@/postgres", "@/restored")
        await timed("restore", backup.restore(url, files), messages)
        problems = await timed("verify", verified(url), messages)
        print(f"  {problems} problems", flush=True)
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backup")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--sealed", action="store_true", help="seal the backup with a key")
    options = parser.parse_args()
    asyncio.run(run(options.messages, bytes(32) if options.sealed else None))
