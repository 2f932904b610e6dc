"""Mail put into the queue, and a worker over it, for tests of the way out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from clawmail.base.ids import new_id
from clawmail.base.secrets import Keyring
from clawmail.base.settings import Outbound as OutboundSettings
from clawmail.base.settings import Server, Settings
from clawmail.core.outbound.local import LocalCarrier
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.parts import make_outbound
from clawmail.model.delivery import Kind, NewDelivery, State
from clawmail.model.mail import Filing, Message, Posting
from clawmail.protocol.dns import Resolver
from clawmail.protocol.headers import split_message
from clawmail.store import postings
from clawmail.store.db import Database
from clawmail.worker import OutboundWorker
from tests.support.tenants import Tenant
from tests.support.zones import ScriptedResolver, Zone

KEYRING = Keyring(b"k" * 32)
MESSAGE = (
    b"From: agent@example.test\r\nTo: bob@there.test\r\nSubject: hello\r\n"
    b"Message-ID: <1@example.test>\r\n\r\n.one dot\r\nsecond line\r\n"
)


def mx_zone(domains: Sequence[str], address: str = "127.0.0.1") -> dict[str, dict[str, list[str]]]:
    """Each domain with an MX of its own at ``address``."""
    zone: dict[str, dict[str, list[str]]] = {}
    for domain in domains:
        zone[domain] = {"MX": [f"10 mx.{domain}"]}
        zone[f"mx.{domain}"] = {"A": [address]}
    return zone


async def queue(
    db: Database,
    tenant: Tenant,
    recipients: Sequence[str],
    *,
    raw: bytes = MESSAGE,
    kind: Kind = "send",
    envelope_from: str | None = None,
    options: dict[str, Any] | None = None,
    state: State = State.QUEUED,
    next_attempt_at: datetime | None = None,
    rule_id: UUID | None = None,
) -> tuple[UUID, list[UUID]]:
    """Writes one message of the tenant's inbox with a delivery a recipient; returns (email id, delivery ids)."""
    now, email_id, inbox = datetime.now(UTC), new_id(), tenant.inbox
    sender = inbox.address if envelope_from is None else envelope_from
    message = message_of(raw, sender, recipients, now)
    ids = [new_id() for _ in recipients]
    deliveries = tuple(
        NewDelivery(
            delivery_id,
            tenant.organisation_id,
            tenant.domain.id,
            inbox.id,
            email_id if kind == "send" else None,
            rule_id,
            kind,
            sender,
            recipient,
            recipient.rpartition("@")[2],
            state,
            next_attempt_at or now,
            now,
            options=options or {},
        )
        for delivery_id, recipient in zip(ids, recipients, strict=True)
    )
    filing = Filing(email_id, tenant.organisation_id, tenant.domain.id, inbox.id, "outbound", is_read=True)
    async with db.transaction() as conn:
        results = await postings.post(conn, [Posting(message, (filing,), deliveries)])
    assert not isinstance(results[0], Exception), results
    return email_id, ids


def message_of(raw: bytes, sender: str, recipients: Sequence[str], now: datetime) -> Message:
    """A message as the store keeps it."""
    identifier = split_message(raw).first("message-id")
    return Message(
        id=new_id(),
        raw=raw,
        trace=b"",
        rfc_message_id=identifier.value.strip().decode() if identifier else None,
        in_reply_to=None,
        reference_ids=(),
        subject="hello",
        from_address=sender,
        from_name="",
        envelope_from=sender,
        sender_warning=None,
        to_addresses=tuple(recipients),
        cc_addresses=(),
        bcc_addresses=(),
        reply_to=(),
        body_text="second line",
        body_html=None,
        attachments=(),
        authentication=None,
        received_at=now,
    )


def make_settings(port: int, **outbound: Any) -> Settings:
    """Settings for a queue that dials ``port`` on loopback, with a short schedule."""
    values: dict[str, Any] = {
        "port": port,
        "allow_private": True,
        "retry_schedule_seconds": [0.05, 0.05],
        "poll_seconds": 1.0,
        "connect_timeout_seconds": 1.0,
        "command_timeout_seconds": 2.0,
        "dot_timeout_seconds": 2.0,
        "mta_sts": False,
        **outbound,
    }
    return Settings(
        server=Server(hostname="mail.example.test", public_ip="192.0.2.1"), outbound=OutboundSettings(**values)
    )


def make_worker(
    db: Database, resolver: Resolver | Zone, settings: Settings, *, local: LocalCarrier | None = None
) -> OutboundWorker:
    """A worker, not started. A zone literal stands for a scripted resolver; ``local`` takes mail within the house."""
    asked: Resolver = ScriptedResolver(resolver) if isinstance(resolver, Mapping) else resolver
    return OutboundWorker(
        lambda on_room, on_notice: make_outbound(
            db,
            asked,
            settings,
            metrics=OutboundMetrics(),
            is_ours=None,
            local=local,
            keyring=KEYRING,
            on_room=on_room,
            on_notice=on_notice,
        ),
        poll_seconds=settings.outbound.poll_seconds,
        lease_seconds=settings.outbound.lease_seconds,
        listen=lambda heard, lost: db.listen("deliveries", heard, lost),
    )


@contextlib.asynccontextmanager
async def running(worker: OutboundWorker) -> AsyncIterator[OutboundWorker]:
    """The worker at work for the time of the block."""
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop(grace=1.0)


async def rows(db: Database, ids: Sequence[UUID]) -> list[Any]:
    """The delivery rows, in the order of ``ids``."""
    async with db.connection() as conn:
        found = {row["id"]: row for row in await conn.fetch("SELECT * FROM deliveries WHERE id = ANY ($1)", list(ids))}
    return [found[delivery_id] for delivery_id in ids]


async def settled(db: Database, ids: Sequence[UUID], *, seconds: float = 15.0) -> list[Any]:
    """Waits until no delivery of ``ids`` will move by itself any more; returns their rows."""
    async with asyncio.timeout(seconds):
        while True:
            found = await rows(db, ids)
            if all(row["state"] not in ("queued", "leased", "deferred") for row in found):
                return found
            await asyncio.sleep(0.02)


async def reached(db: Database, ids: Sequence[UUID], state: str, *, seconds: float = 15.0) -> list[Any]:
    """Waits until every delivery of ``ids`` is in ``state``."""
    async with asyncio.timeout(seconds):
        while True:
            found = await rows(db, ids)
            if all(row["state"] == state for row in found):
                return found
            await asyncio.sleep(0.02)


async def events_of(db: Database, delivery_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    """What happened to a delivery: (type, detail), in order."""
    async with db.connection() as conn:
        found = await conn.fetch("SELECT type, detail FROM events WHERE delivery_id = $1 ORDER BY id", delivery_id)
    return [(row["type"], msgspec.json.decode(row["detail"])) for row in found]


async def inbound(db: Database, tenant: Tenant, *, seconds: float = 10.0) -> Any:
    """Waits for mail in the tenant's inbox; its newest message and thread."""
    async with asyncio.timeout(seconds):
        while True:
            async with db.connection() as conn:
                row = await conn.fetchrow(
                    "SELECT m.*, e.thread_id FROM emails e JOIN messages m ON m.id = e.message_id"
                    " WHERE e.inbox_id = $1 AND e.direction = 'inbound' ORDER BY e.id DESC LIMIT 1",
                    tenant.inbox.id,
                )
            if row is not None:
                return row
            await asyncio.sleep(0.02)


async def thread_of(db: Database, email_id: UUID) -> UUID:
    """The thread of an email."""
    async with db.connection() as conn:
        found: UUID = await conn.fetchval("SELECT thread_id FROM emails WHERE id = $1", email_id)
    return found
