"""DNS messages: writing a question, and reading what a reply says (RFC 1035 section 4, RFC 6891).

No sockets here. A question is twelve octets of header, a name, a type and an OPT record that says how much fits one
datagram; it is written by hand because it is that small. A reply is read by dnspython, then brought into the
``Answer`` the protocols understand: CNAMEs followed, names as text, a negative answer with the time its SOA allows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from clawmail.protocol.dns import MX, TLSA, Answer, Status

#: what we offer to take in one datagram; fits the smallest IPv6 path without fragments (DNS flag day 2020).
EDNS_PAYLOAD_OCTETS = 1_232
#: CNAMEs followed for one question; unbound stops at 11, BIND at 16.
MAX_CNAMES = 12
#: records of one answer that are read; the rest is left out.
MAX_RECORDS = 1_000
#: seconds; a longer time to live counts as this (RFC 8767 section 4 advises a cap in days). Zero is honoured.
MAX_TTL = 86_400.0
#: the same for "no such name" and "no data" (RFC 2308 section 5: one to three hours work well).
MAX_NEGATIVE_TTL = 3_600.0

_HEADER = struct.Struct("!HHHHHH")
#: RD, and AD: "tell me whether you validated this" without asking for the signatures (RFC 6840 section 5.7).
_QUESTION_FLAGS = 0x0120
#: the root name, type 41, our payload size, version 0 and no DO bit, no options (RFC 6891 section 6.1.2).
_OPT = struct.pack("!BHHIH", 0, 41, EDNS_PAYLOAD_OCTETS, 0, 0)

#: reply codes (RFC 1035 section 4.1.1).
FORMERR, NOTIMP = 1, 4


def write_question(ident: int, labels: Sequence[bytes], kind: str, *, edns: bool) -> bytes:
    """A recursive question of class IN for the name made of ``labels``."""
    name = b"".join([bytes((len(label),)) + label for label in labels])
    header = _HEADER.pack(ident, _QUESTION_FLAGS, 1, 0, 0, 1 if edns else 0)
    return header + name + b"\0" + struct.pack("!HH", _TYPES[kind].number, 1) + (_OPT if edns else b"")


def is_reply_to(question: bytes, reply: bytes) -> bool:
    """Whether ``reply`` is a response with the id and the question of ``question`` (RFC 5452 section 9.1)."""
    if len(reply) < _HEADER.size or reply[:2] != question[:2] or reply[2] & 0xF8 != 0x80:
        return False
    if reply[4:6] == b"\0\0":  # servers that choke on a question may not repeat it
        return reply_code(reply) in (FORMERR, NOTIMP)
    end = len(question) - (len(_OPT) if question[11] else 0)
    # The octets that count lengths stay below 64, so lower-casing touches letters only.
    return reply[4:6] == b"\0\1" and reply[12:end].lower() == question[12:end].lower()


def is_truncated(reply: bytes) -> bool:
    """The TC bit: ask again over TCP (RFC 1035 section 4.2.1)."""
    return bool(reply[2] & 0x02)


def reply_code(reply: bytes) -> int:
    """The four bits of RCODE in the header."""
    return reply[3] & 0x0F


def rejects_edns(reply: bytes) -> bool:
    """The codes by which servers from before RFC 2671 reject an OPT record (RFC 6891 section 7)."""
    return reply_code(reply) in (FORMERR, NOTIMP)


class Reading(NamedTuple):
    """What one reply says."""

    #: with a FAILURE, another server may know better.
    answer: Answer[Any]
    #: the target of a CNAME whose own records the server left for us to ask; None most often.
    unfinished: str | None = None


def read_reply(wire: bytes, name: str, kind: str) -> Reading:
    """Read the reply to the question (``name``, ``kind``). Never raises: what is no DNS message reads as FAILURE."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
        return _read(message, name, kind)
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        return Reading(_failure(f"a malformed reply ({type(error).__name__})"))


def _failure(problem: str) -> Answer[Any]:
    return Answer(Status.FAILURE, problem=problem)


def _read(message: dns.message.Message, name: str, kind: str) -> Reading:
    code = message.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return Reading(_failure(f"the name server answered {dns.rcode.to_text(code)}"))
    wanted = _TYPES[kind]
    sets = {(rrset.name, rrset.rdtype): rrset for rrset in message.answer if rrset.rdclass == dns.rdataclass.IN}
    authenticated = bool(message.flags & dns.flags.AD)
    owner, ttl = message.question[0].name, MAX_TTL
    for _ in range(MAX_CNAMES + 1):
        rrset = sets.get((owner, wanted.number))
        if rrset is not None:
            records = wanted.read(list(rrset)[:MAX_RECORDS])
            if not records:
                return Reading(Answer(Status.NO_DATA, authenticated=authenticated, ttl=min(ttl, MAX_NEGATIVE_TTL)))
            ttl = min(ttl, rrset.ttl)
            canonical = name_text(owner) or name
            return Reading(Answer(Status.FOUND, records, authenticated, ttl, canonical_name=canonical))
        alias = sets.get((owner, dns.rdatatype.CNAME))
        if alias is None:
            return _read_negative(message, owner, ttl, authenticated)
        owner, ttl = alias[0].target, min(ttl, alias.ttl)
    return Reading(_failure(f"a chain of more than {MAX_CNAMES} CNAMEs"))


def _read_negative(message: dns.message.Message, owner: dns.name.Name, ttl: float, authenticated: bool) -> Reading:
    """NXDOMAIN or no data for ``owner``, with the time to live of RFC 2308 section 5: none without an SOA."""
    soa = next((rrset for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA), None)
    text = name_text(owner) or ""
    status = Status.NO_NAME if message.rcode() == dns.rcode.NXDOMAIN else Status.NO_DATA
    ttl = min(ttl, soa.ttl, soa[0].minimum, MAX_NEGATIVE_TTL) if soa is not None else 0.0
    answer: Answer[Any] = Answer(status, authenticated=authenticated, ttl=ttl, canonical_name=text)
    aliased = owner != message.question[0].name
    return Reading(answer, text if aliased and soa is None and status is Status.NO_DATA else None)


def name_text(name: dns.name.Name) -> str | None:
    """A name as lower-case text without the last dot; None when a label holds a dot, which text could not tell."""
    labels = name.labels[:-1]
    if any(b"." in label for label in labels):
        return None
    return b".".join(labels).decode("utf-8", "surrogateescape").lower()


def _texts(rdatas: Sequence[Any]) -> tuple[bytes, ...]:
    return tuple([b"".join(rdata.strings) for rdata in rdatas])


def _exchangers(rdatas: Sequence[Any]) -> tuple[MX, ...]:
    pairs = [(rdata.preference, name_text(rdata.exchange)) for rdata in rdatas]
    return tuple(sorted([MX(preference, exchange) for preference, exchange in pairs if exchange is not None]))


def _targets(rdatas: Sequence[Any]) -> tuple[str, ...]:
    names = [name_text(rdata.target) for rdata in rdatas]
    return tuple([name for name in names if name])


def _associations(rdatas: Sequence[Any]) -> tuple[TLSA, ...]:
    return tuple([TLSA(rdata.usage, rdata.selector, rdata.mtype, rdata.cert) for rdata in rdatas])


class _Type(NamedTuple):
    number: dns.rdatatype.RdataType
    read: Callable[[Sequence[Any]], tuple[Any, ...]]


_TYPES = {
    "A": _Type(dns.rdatatype.A, lambda rdatas: tuple([IPv4Address(rdata.address) for rdata in rdatas])),
    "NS": _Type(dns.rdatatype.NS, _targets),
    "PTR": _Type(dns.rdatatype.PTR, _targets),
    "MX": _Type(dns.rdatatype.MX, _exchangers),
    "TXT": _Type(dns.rdatatype.TXT, _texts),
    "AAAA": _Type(dns.rdatatype.AAAA, lambda rdatas: tuple([IPv6Address(rdata.address) for rdata in rdatas])),
    "TLSA": _Type(dns.rdatatype.TLSA, _associations),
}
