"""SPF records: choosing the one that counts among a name's TXT records, and its grammar (RFC 7208 sections 3 to 6, 12).

    v=spf1 ip4:192.0.2.0/24 a:mail.example.org -include:%{d2}.example.net redirect=_spf.example.org

A record is a version and terms with spaces between. A term is a directive (a qualifier and a mechanism that may match
the client) or a modifier (``name=value``). An error anywhere spoils the whole record, even behind the term that would
have matched (section 4.6), so a record is parsed completely before the first question goes out. Parsing depends on the
text alone: what was parsed is remembered, and a domain's second message costs no parsing.
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

from clawmail.protocol.spf.macro import MacroText, SyntaxProblem, compile_domain_spec, compile_text, shorten

#: parsed records that are remembered. Most are under 500 octets; of the larger ones, whose terms take megabytes, few.
REMEMBERED_RECORDS = 1_024
REMEMBERED_LARGE_RECORDS = 4
LARGE_RECORD_OCTETS = 2_048
#: terms of a large record that are parsed before others get their turn: about a millisecond's worth.
TERMS_PER_STEP = 250


Verdict = Literal["pass", "fail", "softfail", "neutral"]


class Kind(enum.IntEnum):
    """The eight mechanisms (RFC 7208 section 5)."""

    ALL = 0
    IP4 = 1
    IP6 = 2
    INCLUDE = 3
    A = 4
    MX = 5
    PTR = 6
    EXISTS = 7


#: what a match means, by qualifier (RFC 7208 section 4.6.2); none at all is "+".
QUALIFIERS: dict[str, Verdict] = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


@dataclass(frozen=True, slots=True)
class Directive:
    """A qualifier and a mechanism."""

    kind: Kind
    #: the result of a match.
    result: Verdict
    #: the term as written.
    text: str
    #: the domain-spec; None where the record's own domain is meant.
    domain: MacroText | None = None
    #: IP4 and IP6: the network, already masked.
    network: int = 0
    #: IP4 and A and MX for an IPv4 client: the bits that must agree.
    mask4: int = 0xFFFF_FFFF
    #: the same for IPv6.
    mask6: int = (1 << 128) - 1


@dataclass(frozen=True, slots=True)
class Record:
    """A record without syntax errors."""

    directives: tuple[Directive, ...]
    redirect: MacroText | None
    explanation: MacroText | None


@dataclass(frozen=True, slots=True)
class BrokenRecord:
    """A record that is PermError whoever sends."""

    problem: str


def select_records(texts: Sequence[bytes]) -> tuple[bytes, ...]:
    """Those of a name's TXT records that are SPF records: "v=spf1" and a space or the end (RFC 7208 section 4.5)."""
    return tuple([text for text in texts if text[:6].lower() == b"v=spf1" and (len(text) == 6 or text[6] == 0x20)])


async def parse_record(octets: bytes) -> Record | BrokenRecord:
    """Parse a record that ``select_records`` chose (RFC 7208 section 4.6.1).

    Only a large one that is new suspends: it is parsed in steps, as 64 KB of terms would hold the loop for 50 ms.
    """
    if len(octets) <= LARGE_RECORD_OCTETS:
        return _parse_small(octets)
    record = _large_records.pop(octets, None) or await _parse_in_steps(octets)
    if len(_large_records) >= REMEMBERED_LARGE_RECORDS:
        del _large_records[next(iter(_large_records))]
    _large_records[octets] = record
    return record


#: RFC 7208 section 3.1: US-ASCII only, and no mechanism, modifier or macro holds a character below the space.
_PRINTABLE = re.compile(rb"[ -~]*")
#: name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." );  modifier = name "=" macro-string
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)")
#: directive = [ qualifier ] mechanism
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9_.-]*)(.*)")
#: dual-cidr-length = [ ip4-cidr-length ] [ "/" ip6-cidr-length ], without leading zeros (RFC 7208 section 5.6)
_DUAL_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_CIDR = re.compile(r"([^/]*)(?:/(0|[1-9][0-9]{0,2}))?")


@lru_cache(REMEMBERED_RECORDS)
def _parse_small(octets: bytes) -> Record | BrokenRecord:
    try:
        draft = _Draft()
        for term in _terms(octets):
            draft.add(term)
    except SyntaxProblem as problem:
        return BrokenRecord(str(problem))
    return draft.record()


#: the last few large records, the one used longest ago first.
_large_records: dict[bytes, Record | BrokenRecord] = {}


async def _parse_in_steps(octets: bytes) -> Record | BrokenRecord:
    try:
        draft = _Draft()
        for number, term in enumerate(_terms(octets), start=1):
            draft.add(term)
            if number % TERMS_PER_STEP == 0:
                await asyncio.sleep(0)
    except SyntaxProblem as problem:
        return BrokenRecord(str(problem))
    return draft.record()


def _terms(octets: bytes) -> list[str]:
    """What stands behind the version: terms = *( 1*SP ( directive / modifier ) ), then *SP (RFC 7208 section 4.6.1)."""
    if not _PRINTABLE.fullmatch(octets):
        raise SyntaxProblem("a character that is not printable ASCII")
    return [term for term in octets[6:].decode("ascii").split(" ") if term]


class _Draft:
    """A record while its terms are read."""

    def __init__(self) -> None:
        self._directives: list[Directive] = []
        self._modifiers: dict[str, MacroText] = {}

    def add(self, term: str) -> None:
        if modifier := _MODIFIER.fullmatch(term):
            _add_modifier(self._modifiers, modifier[1].lower(), modifier[2], term)
        else:
            self._directives.append(_directive(term))

    def record(self) -> Record:
        return Record(tuple(self._directives), self._modifiers.get("redirect"), self._modifiers.get("exp"))


def _add_modifier(modifiers: dict[str, MacroText], name: str, value: str, term: str) -> None:
    if name not in ("redirect", "exp"):
        compile_text(value, in_explanation=True)  # RFC 7208 6: ignored, yet its macros must be well formed
        return
    if name in modifiers:
        raise SyntaxProblem(f"{name}= appears twice")
    try:
        modifiers[name] = compile_domain_spec(value)
    except SyntaxProblem as problem:
        raise SyntaxProblem(f"{problem}, in {shorten(term)}") from None


def _directive(term: str) -> Directive:
    match = _DIRECTIVE.fullmatch(term)
    parse = _MECHANISMS.get(match[2].lower()) if match else None
    if match is None or parse is None:
        raise SyntaxProblem(f"unknown term {shorten(term)}")
    try:
        return parse(match[3], QUALIFIERS[match[1]], term)
    except SyntaxProblem as problem:
        raise SyntaxProblem(f"{problem}, in {shorten(term)}") from None


def _all(rest: str, result: Verdict, term: str) -> Directive:
    if rest:
        raise SyntaxProblem("all takes no argument")
    return Directive(Kind.ALL, result, term)


def _with_domain(kind: Kind) -> Callable[[str, Verdict, str], Directive]:
    """``include`` and ``exists``: the domain-spec is required."""

    def parse(rest: str, result: Verdict, term: str) -> Directive:
        if not rest.startswith(":"):
            raise SyntaxProblem("a domain is missing")
        return Directive(kind, result, term, compile_domain_spec(rest[1:]))

    return parse


def _optional_domain(rest: str) -> MacroText | None:
    if not rest:
        return None
    if not rest.startswith(":"):
        raise SyntaxProblem("neither a domain nor a prefix length")
    return compile_domain_spec(rest[1:])


def _ptr(rest: str, result: Verdict, term: str) -> Directive:
    return Directive(Kind.PTR, result, term, _optional_domain(rest))


def _with_prefix(kind: Kind) -> Callable[[str, Verdict, str], Directive]:
    """``a`` and ``mx``: [ ":" domain-spec ] [ dual-cidr-length ]."""

    def parse(rest: str, result: Verdict, term: str) -> Directive:
        # Only the last 8 characters can be prefix lengths, "/32//128"; what stands before them is the domain's.
        cidr = _DUAL_CIDR.search(rest, max(0, len(rest) - 8))
        if cidr is None:
            raise SyntaxProblem("a broken prefix length")
        domain = _optional_domain(rest[: cidr.start()])
        return Directive(kind, result, term, domain, mask4=_mask(cidr[1], 32), mask6=_mask(cidr[2], 128))

    return parse


def _mask(length: str | None, bits: int) -> int:
    prefix = bits if length is None else int(length)
    if prefix > bits:
        raise SyntaxProblem(f"a prefix length over {bits}")
    return ((1 << prefix) - 1) << (bits - prefix)


def _ip4(rest: str, result: Verdict, term: str) -> Directive:
    match = _CIDR.fullmatch(rest, 1) if rest.startswith(":") else None
    if match is None:
        raise SyntaxProblem("no IPv4 network")
    mask = _mask(match[2], 32)
    try:
        address = IPv4Address(match[1])
    except AddressValueError:
        raise SyntaxProblem("not an IPv4 address") from None
    return Directive(Kind.IP4, result, term, network=int(address) & mask, mask4=mask)


def _ip6(rest: str, result: Verdict, term: str) -> Directive:
    match = _CIDR.fullmatch(rest, 1) if rest.startswith(":") else None
    if match is None or "%" in match[1]:  # the library reads a zone id behind "%" (RFC 4007); SPF has none
        raise SyntaxProblem("no IPv6 network")
    mask = _mask(match[2], 128)
    try:
        address = IPv6Address(match[1])
    except AddressValueError:
        raise SyntaxProblem("not an IPv6 address") from None
    return Directive(Kind.IP6, result, term, network=int(address) & mask, mask6=mask)


_MECHANISMS: dict[str, Callable[[str, Verdict, str], Directive]] = {
    "all": _all,
    "include": _with_domain(Kind.INCLUDE),
    "a": _with_prefix(Kind.A),
    "mx": _with_prefix(Kind.MX),
    "ptr": _ptr,
    "ip4": _ip4,
    "ip6": _ip6,
    "exists": _with_domain(Kind.EXISTS),
}
