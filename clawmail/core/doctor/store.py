"""The database and what it holds: reachable, durable, of our schema; keys that open, a queue that moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from clawmail.base.secrets import Keyring, load_keyring
from clawmail.core.doctor.findings import Finding, Patient, fail, ok, warn
from clawmail.core.doctor.host import room
from clawmail.store import destinations as destination_store
from clawmail.store import doctor as store

OLDEST_POSTGRESQL = 150000
#: how far the clocks may be apart: leases and retries are written by one and read by another.
CLOCKS_WARN, CLOCKS_FAIL = timedelta(seconds=2), timedelta(seconds=60)
#: work that is due for so long and not taken says that nobody works.
OVERDUE = timedelta(minutes=5)
#: destinations, and keys that do not open, that are named.
MAX_NAMED = 10


async def database(patient: Patient) -> list[Finding]:
    """Version, size, schema, and whether a commit is one."""
    async with patient.store.connection() as conn:
        server = await store.server(conn)
        missing = await store.missing_migrations(conn) if server.has_schema else []
    if server.version_number < OLDEST_POSTGRESQL:
        return [fail("database", f"PostgreSQL {server.version} is too old", "Move to PostgreSQL 15 or newer.")]
    if server.read_only:
        return [
            fail("database", "this PostgreSQL is a standby and takes nothing", "Point database.url at the primary.")
        ]
    findings = []
    if not server.has_schema or missing:
        text = f"the schema lacks {', '.join(missing)}" if missing else "the database is empty"
        findings.append(fail("database", text, "clawmail migrate (clawmail serve does it when it starts)"))
    careless = [
        name
        for name, is_on in (
            ("fsync", server.fsync),
            ("full_page_writes", server.full_page_writes),
            ("synchronous_commit", server.synchronous_commit),
        )
        if not is_on
    ]
    if careless:
        text = f"PostgreSQL runs without {', '.join(careless)}: mail that was accepted can be lost in a power cut"
        findings.append(warn("database", text, f"Set {careless[0]} = on in postgresql.conf."))
    size = f"{server.bytes / 1024**2:,.0f} MiB"
    return findings or [ok("database", f"PostgreSQL {server.version} answers, has our schema and holds {size}")]


async def database_disk(patient: Patient) -> list[Finding]:
    """Space for the database, where it is not the embedded one, whose disk has been looked at."""
    if not patient.settings.database.url:
        return []
    async with patient.store.connection() as conn:
        directory = (await store.server(conn)).directory
    if directory is None:
        return [warn("database_disk", "PostgreSQL does not show us its disk", "See there that it has room.")]
    return await room("database_disk", Path(directory), "See on PostgreSQL's machine that its disk has room.")


async def clock(patient: Patient) -> list[Finding]:
    """This machine's clock against PostgreSQL's; on one machine they are the same."""
    before = time.time()
    async with patient.store.connection() as conn:
        theirs = (await store.server(conn)).now.timestamp()
    after = time.time()
    # Theirs was read somewhere between; only what lies outside is a difference.
    apart = timedelta(seconds=max(0.0, before - theirs, theirs - after))
    if apart < CLOCKS_WARN:
        return [ok("clock", f"this machine and PostgreSQL agree that it is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")]
    say = fail if apart > CLOCKS_FAIL else warn
    return [
        say(
            "clock",
            f"this machine and PostgreSQL are {apart.total_seconds():.0f} s apart",
            "Run an NTP client on both.",
        )
    ]


async def dkim_keys(patient: Patient) -> list[Finding]:
    """Whether the secret key opens every DKIM key: mail of the others goes out unsigned."""
    keyring = await asyncio.to_thread(_keyring, patient)
    total, closed = 0, []
    async with patient.store.connection() as conn:
        async for key in store.sealed_keys(conn):
            total += 1
            if keyring is None or not _opens(keyring, key.id, key.private_sealed):
                closed.append(f"{key.selector}._domainkey.{key.domain}")
    if not closed:
        return [ok("dkim_keys", f"the secret key opens all stored DKIM keys ({total})")]
    return [
        fail(
            "dkim_keys",
            f"the secret key does not open {len(closed)} of {total} DKIM keys: {_named(closed)}",
            "Restore the secret key that they were sealed with (server.secret_key, or data_dir/secret.key).",
        )
    ]


async def webhook_secrets(patient: Patient) -> list[Finding]:
    """Whether the secret key opens the secrets of every webhook: the others are told nothing."""
    keyring = await asyncio.to_thread(_keyring, patient)
    total, closed = 0, []
    async with patient.store.connection() as conn:
        async for one in store.webhook_secrets(conn, datetime.now(UTC)):
            total += 1
            sealed = [secret for secret in (one.secret_sealed, one.old_secret_sealed) if secret is not None]
            if keyring is None or not all(_opens(keyring, one.id, secret) for secret in sealed):
                closed.append(f"{one.id} of {one.domain}")
    if not closed:
        return [ok("webhook_secrets", f"the secret key opens the secrets of all webhooks ({total})")]
    return [
        fail(
            "webhook_secrets",
            f"the secret key does not open the secrets of {len(closed)} of {total} webhooks: {_named(closed)}",
            "Restore the secret key that they were sealed with (server.secret_key, or data_dir/secret.key), or rotate"
            " their secrets twice, because one that was replaced signs for a day: POST /api/v1/webhooks/{id}/rotate.",
        )
    ]


def _named(closed: Sequence[str]) -> str:
    """The first of what does not open, and how many more."""
    return ", ".join(closed[:MAX_NAMED]) + (f" and {len(closed) - MAX_NAMED} more" if len(closed) > MAX_NAMED else "")


def _keyring(patient: Patient) -> Keyring | None:
    settings = patient.settings.server
    path = Path(settings.data_dir) / "secret.key"
    if not settings.secret_key and not path.exists():
        return None
    try:
        return load_keyring(settings.secret_key, Path(settings.data_dir))
    except (ValueError, OSError):
        return None  # the check of the secret key says why


def _opens(keyring: Keyring, row_id: UUID, sealed: bytes) -> bool:
    try:
        keyring.open(sealed, bound_to=row_id.bytes)
    except ValueError:
        return False
    return True


async def queue(patient: Patient) -> list[Finding]:
    """Whether work that is due is being done."""
    now = datetime.now(UTC)
    async with patient.store.connection() as conn:
        found = await store.queue(conn, now)
        oldest = await store.oldest_due(conn, now)
    counts = f"{found.waiting} deliveries wait, {found.leased} are under way, {found.held} are held"
    findings = []
    if oldest is not None and now - oldest > OVERDUE:
        minutes = (now - oldest).total_seconds() / 60
        text = f"{counts}; the oldest has been due for {minutes:,.0f} minutes"
        findings.append(warn("queue", text, "See that clawmail serve runs, and read its log; clawmail queue list."))
    if found.held:
        findings.append(warn("queue", f"{found.held} deliveries are held", "clawmail queue list --state held"))
    return findings or [ok("queue", counts)]


async def destinations(patient: Patient) -> list[Finding]:
    """Who is left alone at present."""
    now = datetime.now(UTC)
    async with patient.store.connection() as conn:
        closed = await destination_store.closed(conn, now, limit=MAX_NAMED)
    if not closed:
        return [ok("destinations", "no destination is parked or paused")]
    return [
        warn(
            "destinations",
            f"{one.name} is paused: {one.pause_reason or 'no reason given'}"
            if one.paused_at is not None
            else f"{one.name} is left alone until {one.parked_until:%H:%M:%S} UTC: {one.problem}",
            f"clawmail queue resume {one.name}",
        )
        for one in closed
    ]


async def leases(patient: Patient) -> list[Finding]:
    """Whether anybody takes over what a dead process left."""
    async with patient.store.connection() as conn:
        overdue = (await store.queue(conn, datetime.now(UTC))).overdue_leases
    if overdue:
        text = f"{overdue} deliveries are leased to processes that no longer renew them"
        return [warn("leases", text, "See that clawmail serve runs: it takes them over.")]
    return [ok("leases", "no lease is overdue")]
