"""What Prometheus is told of the HTTP entrance; figures are of one process."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

#: route is the path as it stands in the route table, so that ids do not become labels.
REQUESTS = Counter("clawmail_http_requests", "Requests answered", ["route", "status"])
SECONDS = Histogram(
    "clawmail_http_request_seconds",
    "Time from the request's head to its answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
