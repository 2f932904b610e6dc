"""The SMTP client as SPF sees it: what the macros stand for and where its address leads (RFC 7208 5.5, 7.2, 7.3)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from clawmail.protocol.dns import Address, Answer, Resolver
from clawmail.protocol.domain_name import to_ascii

#: names of one address; more are left out (RFC 7208 section 4.6.4).
MAX_PTR_NAMES = 10


@dataclass(frozen=True, slots=True)
class Client:
    """Who sends."""

    #: an IPv4-mapped address already as IPv4 (RFC 7208 section 5).
    ip: Address
    local_part: str
    #: of the identity that is checked, as A-labels.
    domain: str
    helo: str
    #: our own host name.
    receiver: str
    #: seconds since 1970.
    now: float

    @property
    def is_ip4(self) -> bool:
        """Whether the client came by IPv4."""
        return isinstance(self.ip, IPv4Address)

    def macro_values(self, domain: str, validated_name: str) -> dict[str, str]:
        """What the macro letters stand for while the record of ``domain`` is evaluated (RFC 7208 section 7.2)."""
        return {
            "s": f"{self.local_part}@{self.domain}",
            "l": self.local_part,
            "o": self.domain,
            "d": domain,
            # RFC 7208 7.3: in a form to turn round, for IPv6 nibble by nibble.
            "i": str(self.ip) if self.is_ip4 else ".".join(self.ip.exploded.replace(":", "").upper()),
            "p": validated_name,
            "v": "in-addr" if self.is_ip4 else "ip6",
            "h": to_ascii(self.helo) or self.helo,
            "c": str(self.ip),
            "r": self.receiver,
            "t": str(int(self.now)),
        }


async def addresses_for(resolver: Resolver, client: Client, name: str) -> Answer[IPv4Address] | Answer[IPv6Address]:
    """The addresses of ``name`` in the client's own family (RFC 7208 section 5)."""
    return await (resolver.a(name) if client.is_ip4 else resolver.aaaa(name))


class ClientNames:
    """The client's PTR names, asked for once per check, and which of them lead back to it (RFC 7208 section 5.5).

    The address questions here count as no void lookups: the client writes its own PTR records, and could otherwise turn
    a "fail" into a "permerror" at will.
    """

    def __init__(self, resolver: Resolver, client: Client) -> None:
        #: the PTR question brought no name (and did not fail).
        self.void = False
        self._resolver = resolver
        self._client = client
        self._names: tuple[str, ...] | None = None
        self._validated: dict[str, bool] = {}

    async def all(self) -> tuple[str, ...]:
        """The names, at most ten, validated or not; a DNS error counts as none (RFC 7208 section 5.5)."""
        if self._names is None:
            answer = await self._resolver.ptr(self._client.ip)
            self.void = answer.void
            self._names = answer.records[:MAX_PTR_NAMES]
        return self._names

    async def is_validated(self, name: str) -> bool:
        """Whether ``name`` leads back to the client; a DNS error means no."""
        known = self._validated.get(name)
        if known is None:
            answer = await addresses_for(self._resolver, self._client, name)
            known = self._validated[name] = self._client.ip in answer.records
        return known

    async def preferred(self, domain: str) -> str:
        """The value of ``%{p}``: ``domain``, else a name below it, else any; "unknown" without one (7.3)."""
        domain = domain.lower()
        below = "." + domain
        for name in sorted(await self.all(), key=lambda name: (name != domain, not name.endswith(below))):
            if await self.is_validated(name):
                return name
        return "unknown"
