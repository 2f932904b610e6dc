"""Who takes mail for a domain: MX hosts in order, and their addresses (RFC 5321 section 5.1, RFC 7505).

Lower preferences come first, and equals are shuffled so that load spreads. A domain without MX records is its own host.
A null MX says that the domain takes no mail at all. Nothing here connects; what cannot be mailed is said as the reply
that a host would have given.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import chain, zip_longest

from clawmail.net.addresses import Address
from clawmail.protocol.dns import Resolver
from clawmail.protocol.replies import Reply, our_reply

#: hosts of one MX set that are kept; more is no mail system.
MAX_HOSTS = 20
#: addresses of one host that are tried, both families together.
MAX_ADDRESSES = 6

#: RFC 1123 section 2.1, and "_", which some hosts have. The DNS carries any octet in a label (RFC 2181 section 11); a
#: host named with a NUL or a bracket is nobody's mail exchange, and such a name is fit for no log, reply or table.
_HOST_NAME = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Route:
    """The hosts of a destination, or why there are none."""

    destination: str
    #: names in the order they are to be tried; an address literal is its own name.
    hosts: tuple[str, ...] = ()
    #: set when there is nobody to dial.
    refusal: Reply | None = None
    #: the MX answer was DNSSEC-validated (RFC 7672 section 2.2.1).
    authenticated: bool = False
    #: hosts of the lowest preference, sorted: what domains at one provider share.
    primary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HostAddresses:
    """The addresses of one host, or why there are none."""

    addresses: tuple[Address, ...] = ()
    refusal: Reply | None = None
    #: every answer used was DNSSEC-validated.
    authenticated: bool = False
    #: where CNAMEs led to; the name TLSA records are looked for first (RFC 7672 section 2.2.2).
    canonical_name: str = ""


def literal_address(destination: str) -> Address | None:
    """The address of a literal ("[192.0.2.1]", "[IPv6:2001:db8::1]"; RFC 5321 section 4.1.3)."""
    if not destination.startswith("["):
        return None
    inner = destination[1:-1]
    return IPv6Address(inner[5:]) if inner[:5].lower() == "ipv6:" else IPv4Address(inner)


async def find_route(
    resolver: Resolver, destination: str, *, shuffle: Callable[[list[str]], None] = random.shuffle
) -> Route:
    """The MX hosts of ``destination`` (lower-case A-labels or an address literal)."""
    if destination.startswith("["):
        return Route(destination, (destination,), primary=(destination,))
    answer = await resolver.mx(destination)
    if answer.failed:
        return Route(destination, refusal=our_reply(451, "4.4.3", f"MX of {destination}: {answer.problem}"))
    if not answer.found:
        # Implicit MX (RFC 5321 section 5.1). That a domain does not exist at all shows when its address is asked for.
        return Route(destination, (destination,), authenticated=answer.authenticated, primary=(destination,))
    records = [record for record in answer.records if record.exchange]
    if not records:
        # RFC 7505 section 3
        return Route(destination, refusal=our_reply(556, "5.1.10", f"{destination} takes no mail (null MX)"))
    records = [record for record in records if _HOST_NAME.fullmatch(record.exchange)]
    if not records:
        return Route(destination, refusal=our_reply(550, "5.4.4", f"the MX records of {destination} name no host"))
    hosts: list[str] = []
    for preference in sorted({record.preference for record in records}):
        equals = sorted({record.exchange for record in records if record.preference == preference} - set(hosts))
        shuffle(equals)
        hosts += equals
    lowest = min(record.preference for record in records)
    primary = tuple(sorted({record.exchange for record in records if record.preference == lowest}))
    return Route(destination, tuple(hosts[:MAX_HOSTS]), authenticated=answer.authenticated, primary=primary)


async def find_addresses(resolver: Resolver, host: str) -> HostAddresses:
    """The addresses of ``host``, the two families in turns, IPv6 first (RFC 8305 section 4)."""
    if (literal := literal_address(host)) is not None:
        return HostAddresses((literal,))
    six, four = await resolver.aaaa(host), await resolver.a(host)
    if six.found or four.found:
        used = [answer for answer in (six, four) if answer.found]
        return HostAddresses(
            _interleaved(six.records, four.records),
            authenticated=all(answer.authenticated for answer in used),
            canonical_name=used[0].canonical_name if _HOST_NAME.fullmatch(used[0].canonical_name) else host,
        )
    if six.failed or four.failed:
        problem = six.problem if six.failed else four.problem
        return HostAddresses(refusal=our_reply(451, "4.4.3", f"address of {host}: {problem}"))
    return HostAddresses(refusal=our_reply(550, "5.4.4", f"{host} has no address"))


def _interleaved(six: Sequence[IPv6Address], four: Sequence[IPv4Address]) -> tuple[Address, ...]:
    turns = chain.from_iterable(zip_longest(six, four))
    return tuple(address for address in turns if address is not None)[:MAX_ADDRESSES]
