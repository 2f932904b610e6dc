"""What this process remembers of single hosts: those that do not answer, and those whose TLS is broken.

A dead first MX is skipped for a while, so that the second one gets the mail at once and not after a time-out each time.
A host whose handshake fails is spoken to in clear text for a while, where no policy forbids that. Both memories are
bounded, and losing them costs a try.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

MAX_HOSTS = 10_000
#: seconds a dead host is left alone at first, and at most; doubled each time.
FIRST_PARK_SECONDS = 60.0
MOST_PARK_SECONDS = 900.0
#: seconds a host's broken TLS is remembered.
BROKEN_TLS_SECONDS = 3600.0


@dataclass(slots=True)
class _Memory:
    dead_until: float = 0.0
    failures: int = 0
    broken_tls_until: float = 0.0


class Hosts:
    """Bounded memory by host name. ``now`` is seconds of any clock that never runs backwards."""

    def __init__(self, first_park_seconds: float = FIRST_PARK_SECONDS) -> None:
        self._first = min(first_park_seconds, FIRST_PARK_SECONDS)
        self._known: OrderedDict[str, _Memory] = OrderedDict()

    def died(self, host: str, now: float) -> None:
        """No connection could be had."""
        memory = self._of(host)
        if memory.dead_until <= now:
            memory.dead_until = now + min(self._first * 2.0**memory.failures, MOST_PARK_SECONDS)
            memory.failures = min(memory.failures + 1, 30)

    def answered(self, host: str) -> None:
        """It is there."""
        if (memory := self._known.get(host)) is not None:
            memory.dead_until, memory.failures = 0.0, 0

    def tls_broke(self, host: str, now: float) -> None:
        """Its handshake failed."""
        self._of(host).broken_tls_until = now + BROKEN_TLS_SECONDS

    def has_broken_tls(self, host: str, now: float) -> bool:
        """Whether its handshake failed not long ago."""
        memory = self._known.get(host)
        return memory is not None and memory.broken_tls_until > now

    def in_order(self, hosts: Sequence[str], now: float) -> list[str]:
        """``hosts`` without those known to be dead; all of them if none would be left."""
        alive = [host for host in hosts if (m := self._known.get(host)) is None or m.dead_until <= now]
        return alive or list(hosts)

    def _of(self, host: str) -> _Memory:
        memory = self._known.get(host)
        if memory is None:
            memory = self._known[host] = _Memory()
            if len(self._known) > MAX_HOSTS:
                self._known.popitem(last=False)
        self._known.move_to_end(host)
        return memory
