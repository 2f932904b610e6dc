"""Evaluating SPF records for one client: mechanisms, redirects and explanations (RFC 7208 sections 4.6 to 6).

Terms are tried from left to right until one matches. Questions are asked one after the other and only when the
evaluation needs their answer; the counters of section 4.6.4 run through all included and redirected records.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeVar

from clawmail.protocol.dns import Answer, Resolver, Status
from clawmail.protocol.domain_name import labels_of
from clawmail.protocol.spf.client import Client, ClientNames, addresses_for
from clawmail.protocol.spf.macro import MacroText, compile_explanation, expand_domain, expand_explanation
from clawmail.protocol.spf.record import BrokenRecord, Directive, Kind, Record, Verdict, parse_record, select_records

#: terms that ask the DNS, in all records of one check (RFC 7208 section 4.6.4).
MAX_LOOKUPS = 10
#: questions that bring no record, in one check (ibidem; a SHOULD, with two as the recommended number).
MAX_VOID_LOOKUPS = 2
#: hosts of one ``mx``; more are PermError (ibidem).
MAX_MX_HOSTS = 10

T = TypeVar("T")


class Halt(Exception):
    """The evaluation is over, at whatever depth: temperror or permerror (RFC 7208 sections 2.6.6 and 2.6.7)."""

    def __init__(self, result: Literal["temperror", "permerror"], problem: str) -> None:
        super().__init__(problem)
        self.result = result
        self.problem = problem


class RecordRead(NamedTuple):
    """One record that the evaluation looked at."""

    domain: str
    text: str


class Match(NamedTuple):
    """What evaluating one domain's record came to."""

    result: Verdict
    #: the term that matched, as written; "" when none did.
    term: str
    #: the record that decided, and where it was read; after redirects.
    record: Record
    text: str
    domain: str


class Evaluation:
    """One check_host() with its counters."""

    def __init__(self, resolver: Resolver, client: Client) -> None:
        self.lookups = 0
        self.void_lookups = 0
        self.records_read: list[RecordRead] = []
        self._resolver = resolver
        self._client = client
        self._names = ClientNames(resolver, client)
        self._is_ip4 = client.is_ip4
        self._number = int(client.ip)

    async def check_host(self, domain: str) -> Match | None:
        """Evaluate the record of ``domain``; None when it has none (RFC 7208 sections 4.4 to 4.7). Raises ``Halt``."""
        if "." not in domain:  # RFC 7208 4.3: a name of one label is none to check, not even an included one
            return None
        answer = await self._resolver.txt(domain)
        if answer.status is Status.FAILURE:
            raise Halt("temperror", f"the TXT records of {domain} could not be read: {answer.problem}")
        texts = select_records(answer.records)
        if not texts:
            return None
        if len(texts) > 1:  # RFC 7208 4.5
            raise Halt("permerror", f"{domain} has {len(texts)} SPF records")
        octets = texts[0]
        text = octets.decode("ascii", "replace")
        self.records_read.append(RecordRead(domain, text))
        record = await parse_record(octets)
        if isinstance(record, BrokenRecord):
            raise Halt("permerror", f"the record of {domain} is broken: {record.problem}")
        is_ip4, number = self._is_ip4, self._number
        for directive in record.directives:
            kind = directive.kind
            if kind is Kind.IP4:
                matched = is_ip4 and number & directive.mask4 == directive.network
            elif kind is Kind.IP6:
                matched = not is_ip4 and number & directive.mask6 == directive.network
            else:
                matched = kind is Kind.ALL or await self._matches(directive, domain)
            if matched:
                return Match(directive.result, directive.text, record, text, domain)
        if record.redirect is not None:
            return await self._redirect(record.redirect, domain)
        return Match("neutral", "", record, text, domain)  # RFC 7208 4.7

    async def _redirect(self, target: MacroText, domain: str) -> Match:
        self._count_lookup()
        name = await self._name(target, domain)
        match = None if name is None else await self.check_host(name)
        if match is None:  # RFC 7208 6.1
            raise Halt("permerror", f"redirect={target.text} of {domain} leads to no SPF record")
        return match

    async def _matches(self, directive: Directive, domain: str) -> bool:
        """Ask the DNS about one term (RFC 7208 sections 5.2 to 5.7)."""
        self._count_lookup()
        name = domain if directive.domain is None else await self._name(directive.domain, domain)
        if directive.kind is Kind.INCLUDE:
            return await self._include(directive, name, domain)
        if name is None:
            return False
        if directive.kind is Kind.A:
            return await self._has_client(directive, name)
        if directive.kind is Kind.MX:
            return await self._mx_has_client(directive, name)
        if directive.kind is Kind.PTR:
            return await self._ptr_is_below(name)
        # exists asks for A even when the client came by IPv6 (RFC 7208 5.7).
        return bool(self._records(await self._resolver.a(name), "A", name))

    async def _include(self, directive: Directive, name: str | None, domain: str) -> bool:
        match = None if name is None else await self.check_host(name)
        if match is None:  # RFC 7208 5.2: "none" within is PermError without
            raise Halt("permerror", f"{directive.text} of {domain} leads to no SPF record")
        return match.result == "pass"

    async def _has_client(self, directive: Directive, name: str) -> bool:
        """Whether an address of ``name`` is the client's, as far as the directive's prefix length goes (5.3)."""
        mask = directive.mask4 if self._is_ip4 else directive.mask6
        number = self._number & mask
        addresses = self._records(
            await addresses_for(self._resolver, self._client, name), "A" if self._is_ip4 else "AAAA", name
        )
        return any(int(address) & mask == number for address in addresses)

    async def _mx_has_client(self, directive: Directive, name: str) -> bool:
        hosts = self._records(await self._resolver.mx(name), "MX", name)
        if len(hosts) > MAX_MX_HOSTS:
            raise Halt("permerror", f"{name} has more than {MAX_MX_HOSTS} MX records")
        for host in hosts:
            # A null MX (RFC 7505) names the root, which has no address.
            if host.exchange and await self._has_client(directive, host.exchange):
                return True
        return False

    async def _ptr_is_below(self, target: str) -> bool:
        """Whether a validated name of the client is ``target`` or ends in it (RFC 7208 section 5.5)."""
        target = target.lower()
        names = await self._names.all()
        if self._names.void:
            self._count_void()
        # Only names that could match are worth validating.
        for name in names:
            if (name == target or name.endswith("." + target)) and await self._names.is_validated(name):
                return True
        return False

    async def _name(self, spec: MacroText, domain: str) -> str | None:
        """The name a domain-spec stands for; None when it can match nothing (RFC 8616 section 4)."""
        if not spec.letters:
            return expand_domain(spec, {})
        if not self._client.local_part.isascii() and not spec.letters.isdisjoint("sl"):
            return None
        return expand_domain(spec, await self._values(spec, domain))

    async def _values(self, text: MacroText, domain: str) -> dict[str, str]:
        validated = await self._names.preferred(domain) if "p" in text.letters else ""
        return self._client.macro_values(domain, validated)

    async def explanation(self, match: Match) -> str:
        """What the domain's owner says about a "fail"; "" when he says nothing or not well formed (RFC 7208 6.2)."""
        spec = match.record.explanation
        name = None if spec is None else await self._name(spec, match.domain)
        if name is None:
            return ""
        answer = await self._resolver.txt(name)  # counts towards no limit (RFC 7208 4.6.4)
        if len(answer.records) != 1:
            return ""
        text = compile_explanation(answer.records[0])
        if text is None:
            return ""
        words = expand_explanation(text, await self._values(text, match.domain))
        # It ends up in an SMTP reply: US-ASCII (RFC 7208 6.2), and no line ends out of a quoted local-part.
        return words if words.isascii() and words.isprintable() else ""

    # --- limits ---------------------------------------------------------------------------------------------------

    def _count_lookup(self) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise Halt("permerror", f"more than {MAX_LOOKUPS} terms that ask the DNS")

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > MAX_VOID_LOOKUPS:
            raise Halt("permerror", f"more than {MAX_VOID_LOOKUPS} questions without an answer")

    def _records(self, answer: Answer[T], kind: str, name: str) -> tuple[T, ...]:
        """The records of an answer; a failure ends the evaluation (RFC 7208 section 5)."""
        if answer.status is Status.FAILURE:
            raise Halt("temperror", f"the {kind} records of {name} could not be read: {answer.problem}")
        # A name that cannot be asked for matches nothing (RFC 7208 4.8), and as nobody asked, it is no void lookup.
        if not answer.records and labels_of(name) is not None:
            self._count_void()
        return answer.records
