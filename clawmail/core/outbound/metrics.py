"""What the outbound queue counts for Prometheus.

Labels cost memory for as long as a process lives, and remote hosts have a say in them: they choose their names and
their reply codes. So sites are counted by name up to a number, and codes by those that RFC 5321 and its kin define.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from clawmail.core.outbound.settle import Decision
from clawmail.model.attempt import Outcome

#: seconds from the first to the last octet of a conversation about one message.
_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600)

#: sites with counts of their own; the others are counted together.
MAX_SITES = 300
#: reply codes with counts of their own; the others are counted as "4xx" or "5xx".
CODES = frozenset({421, 450, 451, 452, 454, 455, 500, 501, 502, 503, 521, 530, 550, 551, 552, 553, 554, 555, 556})


def process_registry() -> CollectorRegistry:
    """A registry of an app's own that also shows what the process counts of itself: HTTP requests, memory, CPU."""
    registry = CollectorRegistry()
    registry.register(REGISTRY)
    return registry


class OutboundMetrics:
    """One set of counters an app, in ``registry``."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Without a registry they count for nobody."""
        self.registry = registry = registry or CollectorRegistry()
        self.results = Counter(
            "clawmail_deliveries",
            "Attempts by their result and what it was about",
            ["state", "reason"],
            registry=registry,
        )
        self.by_site = Counter(
            "clawmail_site_attempts", "Attempts by site and reply code", ["site", "reply"], registry=registry
        )
        self._sites: set[str] = set()
        self.seconds = Histogram(
            "clawmail_delivery_attempt_seconds", "Length of an attempt", buckets=_SECONDS, registry=registry
        )
        self.takeovers = Counter(
            "clawmail_lease_takeovers", "Deliveries taken over from dead processes", registry=registry
        )
        self.leases_lost = Counter("clawmail_leases_lost", "Results that no longer counted", registry=registry)
        self.possible_duplicates = Counter(
            "clawmail_possible_duplicates", "Messages sent whose reply never came", registry=registry
        )
        self.in_flight = Gauge(
            "clawmail_deliveries_in_flight", "Deliveries under this process's lease", registry=registry
        )
        self.depth = Gauge("clawmail_queue_depth", "Unfinished deliveries by state", ["state"], registry=registry)
        self.oldest_seconds = Gauge(
            "clawmail_queue_oldest_seconds", "Age of the oldest delivery by state", ["state"], registry=registry
        )
        self.tls_sessions = Counter(
            "clawmail_tls_sessions",
            "Sessions by TLS policy and result (RFC 8460)",
            ["policy", "result"],
            registry=registry,
        )

    def tried(self, site: str, outcome: Outcome) -> None:
        """Counts an attempt at a site."""
        if site not in self._sites and len(self._sites) < MAX_SITES:
            self._sites.add(site)
        name = site if site in self._sites else "other"
        code = outcome.reply.code
        result = "taken" if outcome.delivered else str(code) if code in CODES else f"{code // 100}xx"
        self.by_site.labels(name, result).inc()

    def settled(self, outcome: Outcome, decision: Decision) -> None:
        """Counts one attempt's result."""
        reason = decision.verdict.reason.value if decision.verdict is not None else ""
        self.results.labels(decision.state.value, reason).inc()
        self.seconds.observe(sum(tried.seconds for tried in outcome.tries))
        if any(tried.ambiguous for tried in outcome.tries):
            self.possible_duplicates.inc()
