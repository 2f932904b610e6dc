"""How long a backup, the next ones, a restore and a verification take: ``python -m tests.bench.backup --messages N``.

The mail is spread over thirty days and ten inboxes, about 5 KB a message, in the embedded PostgreSQL as it is shipped.
The commands are run as an operator runs them, and their memory and processor time are those of their process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from clawmail.base import log
from clawmail.store.db import Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.support.tenants import add_inbox, add_tenant

INBOXES = 10
DAYS = 30
#: messages of one statement.
SLICE = 20_000

#: ids are version 7, at equal distances back from the end; $1 first number, $2 last, $3 distance in milliseconds,
#: $4 the end, $5 the number at the end.
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
        SELECT n, $4::timestamptz - (n - $5::bigint + 0.5) * $3::float8 * interval '1 millisecond' AS at
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
JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS place FROM inboxes
      WHERE removed_at IS NULL AND address LIKE '%@bench.test') i
  ON i.place = abs(hashtext(m.id::text)::bigint) % $1
WHERE NOT EXISTS (SELECT FROM emails e WHERE e.message_id = m.id)
"""
THREADS = """
INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                     last_direction, last_email_id, message_count, has_attachments)
SELECT e.id, e.organisation_id, e.domain_id, e.inbox_id, m.subject, m.body_text, m.received_at, m.received_at,
       'inbound', e.id, 1, false
FROM emails e JOIN messages m ON m.id = e.message_id
WHERE NOT EXISTS (SELECT FROM threads t WHERE t.id = e.id)
"""
USAGE = """
UPDATE inbox_usage u SET used_bytes = s.bytes, unread = s.emails, inbound_unread = s.emails
FROM (SELECT inbox_id, sum(size) AS bytes, count(*) AS emails FROM emails GROUP BY 1) s WHERE s.inbox_id = u.inbox_id
"""


async def fill(connection: Any, first: int, count: int, *, ends: datetime, days: float) -> None:
    """Writes mail that came in the ``days`` before ``ends``, with everything that is derived from it."""
    distance = days * 86_400_000 / count
    for begin in range(0, count, SLICE):
        size = min(SLICE, count - begin)
        await connection.execute(MESSAGES, first + begin, first + begin + size - 1, distance, ends, first)
    await connection.execute(EMAILS, INBOXES)
    await connection.execute(THREADS)
    await connection.execute(USAGE)
    await connection.execute("VACUUM ANALYZE")


async def furnish(url: str) -> None:
    """Makes the tenant and its inboxes."""
    db = Database(url)
    await db.open()
    tenant = await add_tenant(db, "bench.test")
    for number in range(INBOXES - 1):
        await add_inbox(db, tenant.domain, f"inbox{number}", quota=1 << 40)
    await db.close()


def run(command: list[str], directory: Path) -> tuple[float, float, int, str]:
    """Runs a command of ours: its seconds, its CPU seconds, the most memory it had in octets, and what it said."""
    began = time.monotonic()
    with (directory / "said").open("w+") as said:
        process = subprocess.Popen([sys.executable, "-m", "clawmail", *command], stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        said.seek(0)
        text = said.read().strip()
    if process.returncode != 0:
        raise RuntimeError(f"clawmail {' '.join(command)} ended with {process.returncode}: {text}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, text.splitlines()[0]


async def measure(what: str, command: list[str], directory: Path, messages: int) -> None:
    """Runs a command of ours and prints a line about it."""
    seconds, cpu, memory, said = await asyncio.to_thread(run, command, directory)
    print(
        f"{what:18} {seconds:8.1f} s {messages / seconds:10,.0f} messages/s {cpu:8.1f} s CPU {memory / 1e6:6.0f} MB"
        f"  {said}",
        flush=True,
    )


async def main(messages: int, *, sealed: bool) -> None:
    """One round on a server of its own."""
    directory = Path(tempfile.mkdtemp(prefix="clawmail-bench-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "var")
    try:
        await server.start()
        await migrate(server.url)
        await furnish(server.url)
        connection = await asyncpg.connect(server.url, command_timeout=4 * 3600)
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        began = time.monotonic()
        await fill(connection, 0, messages, ends=today, days=DAYS)
        print(f"{messages:,} messages written in {time.monotonic() - began:.0f} s", flush=True)
        settings = {"there": server.url, "restored": server.url.replace("@/postgres", "@/restored")}
        for name, url in settings.items():
            text = f'[server]\ndata_dir = "{directory}/{name}"\n[database]\nurl = "{url}"\n'
            (directory / f"{name}.toml").write_text(text)
        (directory / "key").write_text("5a" * 32)
        there, restored = (["--config", str(directory / f"{name}.toml")] for name in settings)
        key = ["--key-file", str(directory / "key")] if sealed else []
        place = [str(directory / "backup"), *key]
        await measure("backup", ["backup", *place, *there], directory, messages)
        await measure("nothing new", ["backup", *place, *there], directory, messages)
        await fill(connection, messages, messages // DAYS, ends=today + timedelta(days=1), days=1)
        messages += messages // DAYS
        await measure("a day later", ["backup", *place, *there], directory, messages)
        await connection.execute("CREATE DATABASE restored")
        await connection.close()
        await measure("restore", ["restore", *place, *restored], directory, messages)
        await measure("verify", ["verify", *restored], directory, messages)
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.backup")
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--sealed", action="store_true", help="seal the backup with a key")
    options = parser.parse_args()
    log.configure("error", "text")
    asyncio.run(main(options.messages, sealed=options.sealed))
