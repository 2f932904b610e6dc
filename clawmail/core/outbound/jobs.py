"""Jobs: what goes to one destination in one SMTP transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from clawmail.model.delivery import ClaimedDelivery
from clawmail.net.mx import Route

#: recipients of one transaction (RFC 5321 section 4.5.3.1.8: every host takes a hundred).
MAX_RECIPIENTS = 100


@dataclass(frozen=True, slots=True)
class Job:
    """Deliveries of one message that share a transaction."""

    deliveries: tuple[ClaimedDelivery, ...]
    route: Route
    #: its provider is never written to in clear text.
    encrypted: bool = False


def jobs_of(those: Sequence[ClaimedDelivery], route: Route, *, encrypted: bool = False) -> Iterable[Job]:
    """Deliveries of one destination as jobs: same message, same sender, same wishes, at most a hundred recipients."""
    groups: dict[tuple[object, ...], list[ClaimedDelivery]] = defaultdict(list)
    for delivery in those:
        shared = {name: delivery.options.get(name) for name in ("ret", "envid", "smtputf8", "require_tls")}
        wishes = msgspec.json.encode(shared)
        groups[(delivery.message_id, delivery.envelope_from, delivery.prefix, wishes)].append(delivery)
    for group in groups.values():
        for start in range(0, len(group), MAX_RECIPIENTS):
            yield Job(tuple(group[start : start + MAX_RECIPIENTS]), route, encrypted)
