"""A bounded cache of DNS answers, by time to live, count and size (RFC 1035 section 7.4, RFC 2308).

It keeps two generations. New answers go to the young one; when that holds half of what is allowed it becomes the old
one, and the old one before it is dropped. An old answer that is asked for again moves to the young one. What is popular
therefore stays, a storm of one-time names washes only through, and a hit costs one dictionary look-up.
"""

from __future__ import annotations

from typing import NamedTuple

from clawmail.protocol.dns import Answer

Key = tuple[str, str]


class _Entry(NamedTuple):
    #: on the clock of the caller.
    expires: float
    answer: Answer[object]
    size: int


class DnsCache:
    """Answers by (type, name); at most ``max_entries`` of them (0: none at all), and about ``max_octets`` together."""

    def __init__(self, *, max_entries: int, max_octets: int) -> None:
        self._half_entries = max(1, max_entries // 2) if max_entries else 0
        self._half_octets = max(1, max_octets // 2)
        self._young: dict[Key, _Entry] = {}
        self._old: dict[Key, _Entry] = {}
        self._young_octets = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: Key, now: float) -> Answer[object] | None:
        """The answer, unless it is missing or over its time at ``now``."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.pop(key, None)
            if entry is None:
                return None
            if entry.expires > now:
                self._keep(key, entry)
        return entry.answer if entry.expires > now else None

    def put(self, key: Key, answer: Answer[object], *, expires: float, size: int) -> None:
        """Remember ``answer``; ``size`` is about what it takes in octets."""
        self._old.pop(key, None)
        if self._half_entries and size <= self._half_octets:
            self._keep(key, _Entry(expires, answer, size))

    def _keep(self, key: Key, entry: _Entry) -> None:
        before = self._young.pop(key, None)
        if before is not None:
            self._young_octets -= before.size
        if len(self._young) >= self._half_entries or self._young_octets + entry.size > self._half_octets:
            self._old, self._young, self._young_octets = self._young, {}, 0
        self._young[key] = entry
        self._young_octets += entry.size
