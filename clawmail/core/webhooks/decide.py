"""What follows from an attempt at an endpoint: a pure decision about the event, and one about the endpoint.

An event that was not taken waits for the next gap of the schedule and is given up after the last. An endpoint that
takes nothing, whatever it is told of, is left alone for a while that doubles, so that a thousand events for a dead host
are not a thousand attempts; one that has taken nothing for days, or says 410 Gone, is disabled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from clawmail.model.webhooks import ClaimedWebhook, EndpointReport, WebhookAttempt, WebhookSettlement, WebhookState

#: share by which a gap is stretched or shrunk.
JITTER = 0.1
#: failures in a row after which an endpoint rests, for how long at first, and at most.
FAILURES_BEFORE_REST = 3
FIRST_REST_SECONDS = 15.0
MAX_REST_SECONDS = 900.0
#: an endpoint that took nothing for so long, in so many attempts at least, is disabled.
DISABLED_AFTER = timedelta(days=5)
DISABLED_AFTER_FAILURES = 20
#: the longest rest that an endpoint gets for asking (Retry-After); those who ask for more are asked again then.
MAX_ASKED_SECONDS = 3600.0
#: RFC 9110 section 15.5.11: the receiver wants no more.
GONE = 410


def settlement(
    claimed: ClaimedWebhook, attempt: WebhookAttempt, schedule: Sequence[float], now: datetime, chance: float
) -> WebhookSettlement:
    """The row an attempt leaves. ``schedule``: seconds before each further try; ``chance`` from 0 to 1 spreads them."""
    if attempt.taken:
        state, next_attempt_at = WebhookState.DELIVERED, None
    elif claimed.event is None or claimed.attempts >= len(schedule):
        state, next_attempt_at = WebhookState.FAILED, None
    else:
        gap = max(schedule[claimed.attempts] * (1 + JITTER * (2 * chance - 1)), asked_seconds(attempt))
        state, next_attempt_at = WebhookState.WAITING, now + timedelta(seconds=gap)
    return WebhookSettlement(
        claimed.webhook_id,
        claimed.event_id,
        claimed.lease_fence,
        state,
        next_attempt_at,
        attempt.status,
        attempt.problem or None,
    )


def reports(
    results: Iterable[tuple[ClaimedWebhook, WebhookAttempt]], now: datetime, chance: float
) -> list[EndpointReport]:
    """How each endpoint did, all its ``results`` together: a single success means that it lives."""
    by_endpoint: dict[UUID, list[tuple[ClaimedWebhook, WebhookAttempt]]] = {}
    for claimed, attempt in results:
        if claimed.event is not None:  # what was forgotten was not tried
            by_endpoint.setdefault(claimed.webhook_id, []).append((claimed, attempt))
    return [_report(endpoint, theirs, now, chance) for endpoint, theirs in by_endpoint.items()]


def _report(
    endpoint: UUID, results: Sequence[tuple[ClaimedWebhook, WebhookAttempt]], now: datetime, chance: float
) -> EndpointReport:
    url = results[-1][0].url
    results = [(claimed, attempt) for claimed, attempt in results if claimed.url == url]
    if any(attempt.status == GONE for _, attempt in results):
        return EndpointReport(endpoint, len(results), None, "it answered 410 Gone", url)
    asked = max(asked_seconds(attempt) for _, attempt in results)
    if any(attempt.taken for _, attempt in results):
        return EndpointReport(endpoint, 0, now + timedelta(seconds=asked) if asked else None, None, url)
    failures = max(claimed.failures for claimed, _ in results) + len(results)
    since = min((claimed.failing_since for claimed, _ in results if claimed.failing_since), default=now)
    if now - since >= DISABLED_AFTER and failures >= DISABLED_AFTER_FAILURES:
        return EndpointReport(endpoint, failures, None, f"it took nothing for {(now - since).days} days", url)
    rest = max(rest_seconds(failures) * (1 + JITTER * (2 * chance - 1)), asked)
    return EndpointReport(endpoint, failures, now + timedelta(seconds=rest) if rest else None, None, url)


def asked_seconds(attempt: WebhookAttempt) -> float:
    """For how long an endpoint is left alone because it asked for it, bounded; 0: it did not ask."""
    return 0.0 if attempt.taken else min(max(attempt.retry_after_seconds, 0.0), MAX_ASKED_SECONDS)


def rest_seconds(failures: int) -> float:
    """For how long an endpoint is left alone after so many failures in a row."""
    beyond = failures - FAILURES_BEFORE_REST
    # Beyond thirty doublings it would be a number that no rest has.
    return 0.0 if beyond < 0 else min(FIRST_REST_SECONDS * 2.0 ** min(beyond, 30), MAX_REST_SECONDS)
