"""Networks that stand for one owner: whoever has one address of them has the others for nothing.

An IPv4 network is a /24, an IPv6 one a /64 (RFC 6177 section 2).
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address

from clawmail.protocol.dns import Address


@lru_cache(maxsize=4096)
def network_of(ip: Address) -> str:
    """The network an address is one of: ``192.0.2.0/24``, ``2001:db8::/64``; a mapped IPv4 address is one of IPv4."""
    inner = ip if isinstance(ip, IPv4Address) else ip.ipv4_mapped
    if inner is not None:
        return f"{IPv4Address(int(inner) & 0xFFFFFF00)}/24"
    return f"{type(ip)(int(ip) >> 64 << 64)}/64"
