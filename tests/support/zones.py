"""A scripted ``Resolver``: a zone written as a literal, answered without a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from clawmail.protocol.dns import MX, TLSA, Address, Answer, Status

#: what stands for a server that does not answer.
SERVFAIL = "SERVFAIL"

Records = Sequence[str | bytes] | str
Zone = Mapping[str, Mapping[str, Records]]


@dataclass
class ScriptedResolver:
    """Answers from ``{name: {type: [text, …] or SERVFAIL}}``; CNAMEs are followed; ``asked`` keeps every question.

    TXT values are text or bytes (one value is one whole record), MX values are "10 mx.example.org" (or "0 ." for a
    null MX), TLSA values are "3 1 1 hex".
    """

    zone: Zone
    authenticated: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)

    def _look(self, name: str, kind: str) -> tuple[Status, Sequence[str | bytes], str]:
        name = name.rstrip(".").lower()
        self.asked.append((kind, name))
        for _ in range(9):
            here = {k.rstrip(".").lower(): v for k, v in self.zone.items()}.get(name)
            if here is None:
                below = any(k.rstrip(".").lower().endswith("." + name) for k in self.zone)
                return (Status.NO_DATA if below else Status.NO_NAME), (), name
            records = here.get(kind, ())
            if records == SERVFAIL or here.get("*") == SERVFAIL:
                return Status.FAILURE, (), name
            if records:
                return Status.FOUND, records, name
            if "CNAME" not in here:
                return Status.NO_DATA, (), name
            name = str(here["CNAME"][0]).rstrip(".").lower()
        return Status.FAILURE, (), name

    def _answer(self, name: str, kind: str) -> tuple[Status, Sequence[str], str]:
        status, records, canonical = self._look(name, kind)
        return status, [r.decode() if isinstance(r, bytes) else r for r in records], canonical

    async def txt(self, name: str) -> Answer[bytes]:
        status, records, canonical = self._look(name, "TXT")
        values = tuple(r if isinstance(r, bytes) else r.encode() for r in records)
        return Answer(status, values, self.authenticated, 300, canonical_name=canonical)

    async def a(self, name: str) -> Answer[IPv4Address]:
        status, records, canonical = self._answer(name, "A")
        return Answer(status, tuple(map(IPv4Address, records)), self.authenticated, 300, canonical_name=canonical)

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        status, records, canonical = self._answer(name, "AAAA")
        return Answer(status, tuple(map(IPv6Address, records)), self.authenticated, 300, canonical_name=canonical)

    async def mx(self, name: str) -> Answer[MX]:
        status, records, canonical = self._answer(name, "MX")
        pairs = (r.split() for r in records)
        values = tuple(sorted(MX(int(p), host.rstrip(".").lower()) for p, host in pairs))
        return Answer(status, values, self.authenticated, 300, canonical_name=canonical)

    async def ptr(self, address: Address) -> Answer[str]:
        status, records, canonical = self._answer(ip_address(address).reverse_pointer, "PTR")
        values = tuple(r.rstrip(".").lower() for r in records)
        return Answer(status, values, self.authenticated, 300, canonical_name=canonical)

    async def tlsa(self, name: str) -> Answer[TLSA]:
        status, records, canonical = self._answer(name, "TLSA")
        parts = (r.split() for r in records)
        values = tuple(TLSA(int(u), int(s), int(m), bytes.fromhex(d)) for u, s, m, d in parts)
        return Answer(status, values, self.authenticated, 300, canonical_name=canonical)

    async def ns(self, name: str) -> Answer[str]:
        status, records, canonical = self._answer(name, "NS")
        return Answer(
            status, tuple(r.rstrip(".").lower() for r in records), self.authenticated, 300, canonical_name=canonical
        )
