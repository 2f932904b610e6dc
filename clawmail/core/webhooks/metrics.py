"""What webhooks count for Prometheus. No label is a tenant's word: addresses would be labels without end."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from clawmail.model.webhooks import WebhookAttempt

#: seconds of a POST; ten is the longest.
_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class WebhookMetrics:
    """One set of counters an app, in ``registry``."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry they count for nobody."""
        registry = registry or CollectorRegistry()
        self.attempts = Counter(
            "clawmail_webhook_attempts", "POSTs to webhooks by kind of answer", ["answer"], registry=registry
        )
        self.seconds = Histogram(
            "clawmail_webhook_attempt_seconds", "Length of a POST to a webhook", buckets=_SECONDS, registry=registry
        )
        self.failed = Counter("clawmail_webhook_failures", "Events given up after their last try", registry=registry)
        self.dropped = Counter(
            "clawmail_webhook_drops", "Events given up because too many waited for their webhook", registry=registry
        )
        self.disabled = Counter(
            "clawmail_webhooks_disabled", "Webhooks switched off for what they answered", registry=registry
        )
        self.takeovers = Counter(
            "clawmail_webhook_takeovers", "Events taken over from dead processes", registry=registry
        )
        self.leases_lost = Counter("clawmail_webhook_leases_lost", "Results that no longer counted", registry=registry)
        self.in_flight = Gauge("clawmail_webhooks_in_flight", "POSTs under way in this process", registry=registry)
        self.waiting = Gauge(
            "clawmail_webhooks_waiting", "Events that wait for a webhook, as of the last minute", registry=registry
        )

    def tried(self, attempt: WebhookAttempt) -> None:
        """Counts an attempt."""
        self.attempts.labels("none" if attempt.status is None else f"{attempt.status // 100}xx").inc()
        self.seconds.observe(attempt.seconds)
