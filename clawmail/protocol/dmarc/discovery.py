"""Finding the DMARC record of a domain, and where its organisation begins: the DNS Tree Walk (RFC 9989 section 4.10).

DNS does not say where one organisation ends and the next begins: ``mail.example.org`` and ``example.org`` belong
together, ``example.org`` and ``other.org`` do not. RFC 7489 looked that up in a list of public suffixes; RFC 9989 asks
the DNS itself. From a name upwards, every ``_dmarc.`` record on the way is collected; a record may state that its
domain is a public suffix (``psd=y``) or the top of an organisation (``psd=n``), which ends the walk. Otherwise the
shortest name with a record is the Organizational Domain.

A walk asks at most eight questions, one after another, because the sender of a message chooses the name it starts at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from clawmail.protocol.dmarc.record import PolicyRecord, is_policy_record, parse_record
from clawmail.protocol.dns import Resolver, Status

#: labels of the second name a walk asks for, at most; with the name it starts at that makes eight questions.
MAX_PARENT_LABELS = 7


class Lookup(NamedTuple):
    """One question for ``_dmarc.<domain>`` and what it brought."""

    domain: str
    record: PolicyRecord | None
    status: Status
    #: how many DMARC records the name has; of several all are discarded.
    candidates: int
    #: why nobody knows, when ``status`` is FAILURE.
    problem: str

    def __str__(self) -> str:
        name = f"_dmarc.{self.domain}"
        if self.record is not None:
            return f"{name}: {self.record.text}"
        if self.candidates > 1:
            return f"{name}: {self.candidates} DMARC records, all discarded (there must be one)"
        if self.status is Status.FOUND:
            return f"{name}: TXT records, but none that starts with v=DMARC1"
        return f"{name}: {self.problem or self.status.value}"


class Walk(NamedTuple):
    """One DNS Tree Walk."""

    start: str
    #: names and their records, longest name first.
    found: tuple[tuple[str, PolicyRecord], ...]
    #: the DNS failure that ended the walk early, in words; "" when it was completed.
    problem: str

    @property
    def organizational_domain(self) -> str:
        """Select the Organizational Domain from what was found (section 4.10.2)."""
        for domain, record in self.found:
            if record.psd == "n":
                return domain
            if record.psd == "y" and domain != self.start:
                return _one_label_below(domain, self.start)
        return self.found[-1][0] if self.found else self.start

    @property
    def policy(self) -> tuple[str, PolicyRecord] | None:
        """The record that applies to the start: its own, its organisation's, its public suffix's (section 4.10.1)."""
        if not self.found:
            return None
        top = self.organizational_domain
        for wanted in (self.start, top):
            for domain, record in self.found:
                if domain == wanted:
                    return domain, record
        # Only a psd=y above the Organizational Domain can leave it without a record of its own.
        return self.found[-1]


@dataclass(slots=True)
class RecordBook:
    """The records seen while one message is judged: each name is asked for once, and every answer is evidence."""

    _resolver: Resolver
    _seen: dict[str, Lookup]

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._seen = {}

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """All questions so far, in the order they were asked."""
        return tuple(self._seen.values())

    async def look_up(self, domain: str) -> Lookup:
        """The one DMARC record of ``domain``, if it has exactly one (section 4.10, steps 2 and 6)."""
        seen = self._seen.get(domain)
        if seen is None:
            answer = await self._resolver.txt(f"_dmarc.{domain}")
            values = [value for value in answer.records if is_policy_record(value)]
            record = parse_record(values[0]) if len(values) == 1 else None
            problem = (answer.problem or "DNS failure") if answer.failed else ""
            self._seen[domain] = seen = Lookup(domain, record, answer.status, len(values), problem)
        return seen

    async def walk(self, start: str) -> Walk:
        """Walk from ``start`` to the root of the DNS, or to the record that ends the walk, or to a DNS failure."""
        found: list[tuple[str, PolicyRecord]] = []
        for domain in names_on_the_way(start):
            lookup = await self.look_up(domain)
            if lookup.problem:
                return Walk(start, tuple(found), f"_dmarc.{domain}: {lookup.problem}")
            if lookup.record is not None:
                found.append((domain, lookup.record))
                if lookup.record.psd != "u":
                    break
        return Walk(start, tuple(found), "")


def names_on_the_way(start: str) -> Iterator[str]:
    """The names a walk asks for, at most eight: a long name is cut to seven labels at once (section 4.10, step 4)."""
    labels = start.split(".")
    # A domain literal, an address that lost its brackets, or a name with an empty label has no place in the DNS.
    if start.startswith("[") or labels[-1].isdecimal() or not all(labels):
        return
    yield start
    labels = labels[1:][-MAX_PARENT_LABELS:]
    for index in range(len(labels)):
        yield ".".join(labels[index:])


def _one_label_below(parent: str, domain: str) -> str:
    return ".".join(domain.split(".")[-parent.count(".") - 2 :])
