"""The outbound queue put together from settings: one function that reads from top to bottom."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from ipaddress import ip_address

from clawmail.base.ids import new_id
from clawmail.base.secrets import Keyring
from clawmail.base.settings import Settings
from clawmail.config import parse_listener
from clawmail.core.outbound.attempt import Carrier
from clawmail.core.outbound.bounces import Bounces
from clawmail.core.outbound.connect import Connector, Way
from clawmail.core.outbound.hosts import Hosts
from clawmail.core.outbound.leases import Leases
from clawmail.core.outbound.local import LocalCarrier
from clawmail.core.outbound.messages import Messages
from clawmail.core.outbound.metrics import OutboundMetrics
from clawmail.core.outbound.mta_sts import MtaSts
from clawmail.core.outbound.presets import load_presets
from clawmail.core.outbound.proof import Proofs
from clawmail.core.outbound.queue import Outbound, Parts
from clawmail.core.outbound.settle import Schedule
from clawmail.core.outbound.settler import Settler
from clawmail.core.outbound.tls_policy import TlsPolicies
from clawmail.net.fetch import Fetcher
from clawmail.net.smtp_client import Timeouts
from clawmail.net.tls import TlsContexts
from clawmail.protocol.dns import Address, Resolver
from clawmail.store.db import Database


def utc_now() -> datetime:
    """The clock of the queue."""
    return datetime.now(UTC)


def own_addresses(settings: Settings) -> list[Address]:
    """Addresses at which the port we dial is our own door: mail sent there would come back in."""
    public = ip_address(settings.server.public_ip)
    found = {public} if public.is_global else set()
    for listener in settings.smtp.listen:
        host, port = parse_listener(listener)
        if port == settings.outbound.port:
            with contextlib.suppress(ValueError):  # a name: what it stands for is found by the resolver, not here
                found.add(public if host in ("0.0.0.0", "::") else ip_address(host))
    return list(found)


def make_outbound(
    db: Database,
    resolver: Resolver,
    settings: Settings,
    *,
    metrics: OutboundMetrics,
    is_ours: Callable[[str], Awaitable[bool]] | None,
    on_room: Callable[[], None],
    on_notice: Callable[[], None],
    local: LocalCarrier | None = None,
    keyring: Keyring | None = None,
    clock: Callable[[], datetime] = utc_now,
) -> Outbound:
    """See ``queue``. Raises PresetsError when the presets file is wrong.

    ``keyring``: signs the ENVIDs under which mail travels, so that bounces can prove what they are about.
    """
    wishes = settings.outbound
    owner = new_id()
    hosts = Hosts(min(wishes.retry_schedule_seconds, default=60.0))
    way = Way(
        ehlo_name=settings.hostname,
        port=wishes.port,
        source_ip=wishes.source_ip,
        allow_private=wishes.allow_private,
        timeouts=Timeouts(
            connect=wishes.connect_timeout_seconds,
            greeting=wishes.command_timeout_seconds,
            command=wishes.command_timeout_seconds,
            dot=wishes.dot_timeout_seconds,
        ),
        own_addresses=lambda: own_addresses(settings),
        is_ours=is_ours,
    )
    schedule = Schedule(wishes.retry_schedule_seconds, wishes.retry_jitter, wishes.delay_notice_seconds)
    contexts = TlsContexts(min_version=wishes.tls_min_version)
    fetcher = Fetcher(resolver, allow_private=wishes.allow_private, context=contexts.verifying)
    mta_sts = MtaSts(db, resolver, fetcher, clock=clock) if wishes.mta_sts else None
    policies = TlsPolicies(resolver, mta_sts, with_dane=wishes.dane, port=wishes.port, metrics=metrics, clock=clock)
    connector = Connector(resolver, way, contexts, hosts, policies)
    leases = Leases(db, owner, lease_seconds=wishes.lease_seconds, metrics=metrics, clock=clock)
    parts = Parts(
        db=db,
        resolver=resolver,
        leases=leases,
        carrier=Carrier(connector, hosts, Messages(db), Proofs(keyring) if keyring else None, leases.may_send),
        settler=Settler(db, owner, lease_seconds=wishes.lease_seconds, clock=clock),
        bounces=Bounces(db, schedule, hostname=settings.hostname, clock=clock),
        policies=policies,
        fetcher=fetcher,
        presets=load_presets(
            wishes.presets, idle_seconds=wishes.idle_connection_seconds, processes=settings.server.workers
        ),
        schedule=schedule,
        metrics=metrics,
        local=local,
        clock=clock,
    )
    return Outbound(parts, max_in_flight=wishes.max_attempts_in_flight, on_room=on_room, on_notice=on_notice)
