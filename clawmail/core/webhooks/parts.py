"""Webhooks put together: the poster, and the queue that posts with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from clawmail.base.secrets import Keyring
from clawmail.base.settings import Webhooks as WebhookSettings
from clawmail.core.webhooks.metrics import WebhookMetrics
from clawmail.core.webhooks.post import Poster, Rendering
from clawmail.core.webhooks.queue import MAX_IN_FLIGHT, WebhookQueue
from clawmail.net.fetch import Fetcher
from clawmail.protocol.dns import Resolver
from clawmail.store.db import Database


def make_poster(settings: WebhookSettings, resolver: Resolver, keyring: Keyring, render: Rendering) -> Poster:
    """What posts to endpoints; ``render`` writes the bodies. It belongs to one event loop."""
    # Twice as many connections: those of endpoints that were told something lately stay open for a while.
    fetcher = Fetcher(resolver, allow_private=settings.allow_private, max_connections=2 * MAX_IN_FLIGHT)
    return Poster(fetcher, keyring, render, timeout_seconds=settings.timeout_seconds)


def make_queue(
    db: Database,
    poster: Poster,
    settings: WebhookSettings,
    *,
    metrics: WebhookMetrics,
    clock: Callable[[], datetime],
    on_result: Callable[[], None],
) -> WebhookQueue:
    """See ``queue``."""
    return WebhookQueue(
        db,
        poster,
        schedule=settings.retry_schedule_seconds,
        lease_seconds=settings.lease_seconds,
        timeout_seconds=settings.timeout_seconds,
        metrics=metrics,
        clock=clock,
        on_result=on_result,
    )
