"""The six DNS records of a domain: what they have to say, what they say now, and what to do about it.

Three of them prove that the domain is its tenant's and bring its mail here (TXT, MX, A); three more let the world
believe the mail it sends: DKIM (RFC 6376 section 3.6), SPF (RFC 7208) and DMARC (RFC 9989). Each may be worded in
another way than proposed, as long as it does its work; a record that cannot be looked up counts as missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from clawmail.model.tenancy import DkimKey, Domain
from clawmail.protocol.dkim.keys import KeyRecord, read_key_record
from clawmail.protocol.dmarc.record import is_policy_record, parse_record
from clawmail.protocol.dns import Answer, BudgetedResolver, Resolver
from clawmail.protocol.spf.check import check_spf

VERIFICATION_LABEL = "_clawmail"
MX_PREFERENCE = 10
#: bounds of one inspection.
MAX_QUESTIONS = 150
MAX_SECONDS = 20.0
#: how much of what was found is shown.
MAX_FOUND = 10
MAX_FOUND_CHARACTERS = 600

RecordType = Literal["TXT", "MX", "A", "AAAA"]
RecordState = Literal["ok", "missing", "wrong"]


@dataclass(frozen=True, slots=True)
class Host:
    """Where a domain's mail has to be sent: this server."""

    #: first label of the MX host.
    label: str
    address: IPv4Address | IPv6Address

    def name_for(self, domain: str) -> str:
        """The MX host of a domain: mx.<domain>."""
        return f"{self.label}.{domain}"

    @property
    def record_type(self) -> RecordType:
        """A, or AAAA on a server without IPv4."""
        return "A" if isinstance(self.address, IPv4Address) else "AAAA"


@dataclass(frozen=True, slots=True)
class Ownership:
    """The three records that prove a domain."""

    txt: bool
    mx: bool
    a: bool

    @property
    def proved(self) -> bool:
        """All three are right."""
        return self.txt and self.mx and self.a

    def __str__(self) -> str:
        words = (("TXT", self.txt), ("MX", self.mx), ("A", self.a))
        return ", ".join(f"{name}: {'OK' if good else 'FAIL'}" for name, good in words)


@dataclass(frozen=True, slots=True)
class RecordCheck:
    """One record to publish and its live state."""

    type: RecordType
    name: str
    value: str
    state: RecordState
    #: what is published at that name now.
    found: tuple[str, ...]
    #: what to do, "" when there is nothing to do.
    fix: str
    #: of an MX record.
    priority: int | None = None
    #: why nobody knows what is published; "" when it was looked up.
    problem: str = ""


def dkim_name(selector: str, domain: str) -> str:
    """Where a key's record is published (RFC 6376 section 3.6.2.1)."""
    return f"{selector}._domainkey.{domain}"


async def check_ownership(resolver: Resolver, domain: Domain, host: Host) -> Ownership:
    """Whether TXT, MX and A of ``domain`` say what they have to."""
    budgeted = BudgetedResolver(resolver, queries=MAX_QUESTIONS, seconds=MAX_SECONDS)
    txt, mx, a = await asyncio.gather(
        _verification(budgeted, domain), _exchange(budgeted, domain, host), _address(budgeted, domain, host)
    )
    return Ownership(txt.state == "ok", mx.state == "ok", a.state == "ok")


async def key_is_published(resolver: Resolver, domain_name: str, key: DkimKey) -> bool:
    """Whether a signing key's record can be seen."""
    answer = await resolver.txt(dkim_name(key.selector, domain_name))
    return _holds_key(answer, key)


async def inspect(resolver: Resolver, domain: Domain, keys: Sequence[DkimKey], host: Host) -> list[RecordCheck]:
    """The records of ``domain`` with their live state; one DKIM record for each of ``keys``."""
    budgeted = BudgetedResolver(resolver, queries=MAX_QUESTIONS, seconds=MAX_SECONDS)
    return await asyncio.gather(
        _verification(budgeted, domain),
        _exchange(budgeted, domain, host),
        _address(budgeted, domain, host),
        *[_dkim(budgeted, domain, key) for key in keys],
        _spf(budgeted, domain, host),
        _dmarc(budgeted, domain),
    )


async def _verification(resolver: Resolver, domain: Domain) -> RecordCheck:
    name, value = f"{VERIFICATION_LABEL}.{domain.name}", domain.verification_value
    answer = await resolver.txt(name)
    right = any(record.strip() == value.encode() for record in answer.records)
    return _checked("TXT", name, value, answer, right, _texts(answer.records))


async def _exchange(resolver: Resolver, domain: Domain, host: Host) -> RecordCheck:
    value = host.name_for(domain.name)
    answer = await resolver.mx(domain.name)
    right = any(record.exchange == value for record in answer.records)
    found = tuple(f"{record.preference} {record.exchange or '.'}" for record in answer.records[:MAX_FOUND])
    return _checked("MX", domain.name, value, answer, right, found, MX_PREFERENCE)


async def _address(resolver: Resolver, domain: Domain, host: Host) -> RecordCheck:
    name = host.name_for(domain.name)
    answer: Answer[IPv4Address] | Answer[IPv6Address]
    answer = await resolver.a(name) if isinstance(host.address, IPv4Address) else await resolver.aaaa(name)
    found = tuple(str(record) for record in answer.records[:MAX_FOUND])
    return _checked(host.record_type, name, str(host.address), answer, host.address in answer.records, found)


async def _dkim(resolver: Resolver, domain: Domain, key: DkimKey) -> RecordCheck:
    name = dkim_name(key.selector, domain.name)
    answer = await resolver.txt(name)
    return _checked("TXT", name, key.public_record, answer, _holds_key(answer, key), _texts(answer.records))


def _holds_key(answer: Answer[bytes], key: DkimKey) -> bool:
    ours = read_key_record(key.public_record.encode())
    published = [read_key_record(record) for record in answer.records[:MAX_FOUND]]
    return isinstance(ours, KeyRecord) and any(
        isinstance(record, KeyRecord) and record.public_key == ours.public_key for record in published
    )


async def _spf(resolver: Resolver, domain: Domain, host: Host) -> RecordCheck:
    """Any record that lets this server's address pass is right (RFC 7208 section 4.6.2)."""
    value = f"v=spf1 a:{host.name_for(domain.name)} -all"
    answer = await resolver.txt(domain.name)
    records = [record for record in answer.records if record.lower().partition(b" ")[0] == b"v=spf1"]
    result = await check_spf(
        resolver, ip=host.address, mail_from=f"postmaster@{domain.name}", helo=host.name_for(domain.name)
    )
    return _checked("TXT", domain.name, value, answer, result.result == "pass", _texts(records))


async def _dmarc(resolver: Resolver, domain: Domain) -> RecordCheck:
    """Any usable policy is right; two of them count as none (RFC 9989 section 4.7)."""
    name = f"_dmarc.{domain.name}"
    value = f"v=DMARC1; p=none; rua=mailto:dmarc@{domain.name}"
    answer = await resolver.txt(name)
    records = [record for record in answer.records if is_policy_record(record)]
    right = len(records) == 1 and parse_record(records[0]).policies is not None
    return _checked("TXT", name, value, answer, right, _texts(records or answer.records))


def _checked(
    kind: RecordType,
    name: str,
    value: str,
    answer: Answer[object],
    right: bool,
    found: tuple[str, ...],
    priority: int | None = None,
) -> RecordCheck:
    state: RecordState = "ok" if right else "wrong" if found else "missing"
    fix = _fix(kind, name, value, state, answer, priority)
    return RecordCheck(
        kind, name, value, state, found, fix, priority, (answer.problem or "DNS failure") if answer.failed else ""
    )


def _fix(
    kind: RecordType, name: str, value: str, state: RecordState, answer: Answer[object], priority: int | None
) -> str:
    if state == "ok":
        return ""
    wanted = value if priority is None else f"{value} (priority {priority})"
    if answer.failed:
        return f"The {kind} records of {name} could not be looked up ({answer.problem}); it has to be: {wanted}"
    if state == "missing":
        article = "a" if kind == "TXT" else "an"  # an MX, an A
        return f"Add {article} {kind} record at {name}: {wanted}"
    return f"Change the {kind} record at {name} to: {wanted}"


def _texts(records: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(record.decode("utf-8", "replace")[:MAX_FOUND_CHARACTERS] for record in records[:MAX_FOUND])


def host_of(mx_label: str, public_ip: str) -> Host:
    """This server as its settings describe it. Raises ValueError when ``public_ip`` is no address."""
    return Host(mx_label, ip_address(public_ip))
