"""What a test's DNS server knows and how it answers: no sockets, one query's octets in, the replies' octets out.

It plays the recursive resolver that a mail server asks: it follows CNAMEs inside its zone, tells NXDOMAIN from NODATA
(a name with names below it exists, RFC 8020), puts an SOA in negative answers (RFC 2308), cuts what does not fit a
datagram and sets TC, and sets AD for those who ask for it (RFC 6840 section 5.7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

from tests.support.zones import SERVFAIL, Records, Zone

#: in a zone literal: the server reads the question and never answers.
SILENCE = "SILENCE"

#: a chain of CNAMEs longer than this is given back unfinished.
MAX_CNAMES = 20
MAX_TCP_REPLY_BYTES = 65_535
PLAIN_UDP_BYTES = 512


@dataclass(frozen=True, slots=True)
class Fault:
    """How the server misbehaves for one name (or, under the name "*", for every name)."""

    #: answer with this code only, "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP" …
    rcode: str = ""
    #: say nothing at all.
    silent: bool = False
    #: over UDP, an empty answer with TC set.
    truncated: bool = False
    #: seconds before the reply leaves.
    delay: float = 0.0
    #: FORMERR to every question that has an OPT record, as servers from before RFC 2671 do.
    refuses_edns: bool = False
    #: the good reply in, the messages that are sent in its place out.
    tamper: Callable[[bytes], Sequence[bytes]] | None = None


def _plain(name: str) -> str:
    return name.rstrip(".").lower()


def _text_of(name: dns.name.Name) -> str:
    """A wire name as the zone literal spells it: labels joined by dots, no escapes."""
    return b".".join(name.labels[:-1]).decode("utf-8", "surrogateescape").lower()


def _name_of(text: str) -> dns.name.Name:
    labels = _plain(text).encode("utf-8", "surrogateescape").split(b".") if _plain(text) else []
    return dns.name.Name([*labels, b""])


def _rdata(kind: str, value: str | bytes) -> dns.rdata.Rdata:
    if kind == "TXT":
        octets = value if isinstance(value, bytes) else value.encode()
        strings = [octets[i : i + 255] for i in range(0, len(octets), 255)] or [b""]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    text = value.decode() if isinstance(value, bytes) else value
    return dns.rdata.from_text(dns.rdataclass.IN, kind, text, origin=dns.name.root, relativize=False)


class ServedZone:
    """Records and faults by name, and the replies they make."""

    def __init__(self, zone: Zone | None = None, *, authenticated: bool = False) -> None:
        #: whether replies carry the AD bit (for those who ask).
        self.authenticated = authenticated
        #: seconds, of records and of the SOA that negative answers carry.
        self.ttl = 300
        self.negative_ttl = 300
        #: every question as (type, name), in the order they came; TCP ones again in ``asked_over_tcp``.
        self.asked: list[tuple[str, str]] = []
        self.asked_over_tcp: list[tuple[str, str]] = []
        #: every question as it came over the wire, for tests that look at ids, flags and letter case.
        self.queries: list[dns.message.Message] = []
        self._records: dict[str, dict[str, Records]] = {}
        self._existing: set[str] | None = None
        self._faults: dict[str, Fault] = {}
        for name, kinds in (zone or {}).items():
            self._records[_plain(name)] = dict(kinds)

    # --- what it knows -----------------------------------------------------------------------------------------

    def set(self, name: str, kind: str, values: Records) -> None:
        """Make ``values`` (texts, or SERVFAIL or SILENCE) the records of this name and type."""
        self._records.setdefault(_plain(name), {})[kind.upper()] = values
        self._existing = None

    def remove(self, name: str, kind: str | None = None) -> None:
        """Forget one type of a name, or the whole name."""
        if kind is None:
            self._records.pop(_plain(name), None)
        else:
            self._records.get(_plain(name), {}).pop(kind.upper(), None)
        self._existing = None

    def fault(self, name: str, fault: Fault | None) -> None:
        """Misbehave for ``name`` ("*": for all) from now on; None ends it."""
        if fault is None:
            self._faults.pop(_plain(name), None)
        else:
            self._faults[_plain(name)] = fault

    def _exists(self, name: str) -> bool:
        if self._existing is None:
            names = [known.split(".") for known in self._records]
            self._existing = {".".join(labels[i:]) for labels in names for i in range(len(labels))}
        return name in self._existing

    # --- one question ------------------------------------------------------------------------------------------

    def _fill(self, reply: dns.message.Message, name: str, kind: str) -> str:
        """Put the answer to (name, kind) into ``reply``; gives back SILENCE when there shall be none."""
        seen: set[str] = set()
        while len(seen) <= MAX_CNAMES and name not in seen:
            seen.add(name)
            here = self._records.get(name, {})
            values = here.get("*", here.get(kind, ()))
            if values in (SERVFAIL, SILENCE):
                reply.answer.clear()
                reply.set_rcode(dns.rcode.SERVFAIL)
                return str(values)
            if values:
                for value in values:  # one set each: dnspython shuffles the records of a set
                    reply.answer.append(dns.rrset.from_rdata(_name_of(name), self.ttl, _rdata(kind, value)))
                return ""
            if "CNAME" not in here:
                if not self._exists(name):
                    reply.set_rcode(dns.rcode.NXDOMAIN)
                soa = dns.rrset.from_text(".", self.negative_ttl, "IN", "SOA", f". . 1 1 1 1 {self.negative_ttl}")
                reply.authority.append(soa)
                return ""
            target = here["CNAME"][0]
            reply.answer.append(dns.rrset.from_rdata(_name_of(name), self.ttl, _rdata("CNAME", target)))
            name = _plain(target.decode() if isinstance(target, bytes) else target)
        return ""

    def _fault_for(self, name: str) -> Fault:
        return self._faults.get(name) or self._faults.get("*") or Fault()

    async def replies(self, wire: bytes, over_tcp: bool) -> Sequence[bytes]:
        """The messages that answer one query, most often one."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return ()
        name, kind = _text_of(query.question[0].name), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append((kind, name))
        self.queries.append(query)
        if over_tcp:
            self.asked_over_tcp.append((kind, name))
        fault = self._fault_for(name)
        reply = dns.message.make_response(query, recursion_available=True)
        verdict = self._fill(reply, name, kind)
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.silent or verdict == SILENCE:
            return ()
        if self.authenticated and (query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO):
            reply.flags |= dns.flags.AD
        if fault.rcode or (fault.refuses_edns and query.edns >= 0):
            reply = dns.message.make_response(query, recursion_available=True)
            reply.set_rcode(dns.rcode.from_text(fault.rcode or "FORMERR"))
        out = self._to_wire(reply, query, over_tcp, fault.truncated)
        return fault.tamper(out) if fault.tamper else (out,)

    @staticmethod
    def _to_wire(reply: dns.message.Message, query: dns.message.Message, over_tcp: bool, cut: bool) -> bytes:
        room = MAX_TCP_REPLY_BYTES if over_tcp else max(query.payload, PLAIN_UDP_BYTES)
        if over_tcp or not cut:
            try:
                return reply.to_wire(max_size=room)
            except dns.exception.TooBig:
                cut = True
        short = dns.message.make_response(query, recursion_available=True)
        if over_tcp:
            short.set_rcode(dns.rcode.SERVFAIL)
        else:
            short.flags |= dns.flags.TC
        return short.to_wire()
