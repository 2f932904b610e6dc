"""What the queue counts for Prometheus, however many hosts there are and whatever they answer."""

from __future__ import annotations

from prometheus_client import generate_latest

from clawmail.core.outbound.metrics import CODES, MAX_SITES, OutboundMetrics
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.protocol.replies import read_reply


def outcome(code: int) -> Outcome:
    return Outcome((Try("mx.there.test", "192.0.2.1", Stage.DOT, read_reply(code, [b"as you like"])),))


def test_sites_are_counted_by_name_up_to_a_number() -> None:
    metrics = OutboundMetrics()
    for number in range(MAX_SITES + 50):
        metrics.tried(f"site{number}", outcome(250))
    metrics.tried("site0", outcome(250))
    lines = generate_latest(metrics.registry).decode().splitlines()
    counted = [line for line in lines if line.startswith("clawmail_site_attempts_total")]
    assert len(counted) == MAX_SITES + 1
    assert 'clawmail_site_attempts_total{reply="taken",site="other"} 50.0' in counted
    assert 'clawmail_site_attempts_total{reply="taken",site="site0"} 2.0' in counted


def test_codes_nobody_defined_are_counted_together() -> None:
    metrics = OutboundMetrics()
    for code in range(400, 600):
        metrics.tried("there.test", outcome(code))
    replies = {
        sample.labels["reply"]: sample.value
        for family in metrics.by_site.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert set(replies) == {str(code) for code in CODES} | {"4xx", "5xx"}
    assert sum(replies.values()) == 200


def test_each_registry_counts_for_itself() -> None:
    ours, theirs = OutboundMetrics(), OutboundMetrics()
    ours.takeovers.inc()
    assert b"clawmail_lease_takeovers_total 1.0" in generate_latest(ours.registry)
    assert b"clawmail_lease_takeovers_total 0.0" in generate_latest(theirs.registry)
