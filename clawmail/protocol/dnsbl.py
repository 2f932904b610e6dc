"""Block and allow lists in the DNS (RFC 5782): the client's address, turned around, as a name below the list's zone."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import NamedTuple

from clawmail.protocol.address import normalise_domain
from clawmail.protocol.dns import Address, Resolver

#: entries are addresses in here (RFC 5782 section 2.1).
_ENTRIES = IPv4Network("127.0.0.0/8")
#: what large lists answer to those they do not serve; it says nothing about the client.
_REFUSALS = IPv4Network("127.255.255.0/24")
MAX_WEIGHT = 1000


class ListZone(NamedTuple):
    """A list and how much its word weighs."""

    name: str
    weight: int


def parse_zone(text: str) -> ListZone:
    """``zone`` or ``zone=weight``. Raises ValueError."""
    name, has_weight, weight = text.partition("=")
    zone = normalise_domain(name.strip())
    if zone is None or (has_weight and not (weight.strip().isdigit() and 0 < int(weight) <= MAX_WEIGHT)):
        raise ValueError(f"{text!r} is no list: expected zone or zone=weight, a weight from 1 to {MAX_WEIGHT}")
    return ListZone(zone, int(weight) if has_weight else 1)


async def is_listed(resolver: Resolver, zone: str, ip: Address) -> bool:
    """Whether the list has the address. A list that does not answer has not."""
    answer = await resolver.a(query_name(ip, zone))
    return any(entry in _ENTRIES and entry not in _REFUSALS for entry in answer.records)


def query_name(ip: Address, zone: str) -> str:
    """``2.0.0.127.zone`` (RFC 5782 section 2.1), or the nibbles of an IPv6 address (section 2.4)."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    suffix = ".in-addr.arpa" if isinstance(ip, IPv4Address) else ".ip6.arpa"
    return f"{ip.reverse_pointer.removesuffix(suffix)}.{zone}"
