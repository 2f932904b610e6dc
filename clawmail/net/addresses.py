"""Addresses that mail and fetches may go to, and those that a stranger's DNS must not lead us to.

Names in the DNS can point anywhere: at our own loopback, into the private network behind us, at a cloud's metadata
service. Whatever is not globally reachable (RFC 6890 and IANA's registries, as Python's ``ipaddress`` has them) is
refused, and so is an IPv6 address that only wraps such an IPv4 one.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address

#: RFC 6052 section 2.1: IPv4 addresses behind a NAT64.
_NAT64 = IPv6Network("64:ff9b::/96")
#: what ``ipaddress`` takes for global and no stranger has a host in.
_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # IETF protocol assignments (RFC 6890 section 2.2.2)
    IPv4Network("192.88.99.0/24"),  # 6to4 relays, no more (RFC 7526)
    IPv6Network("::/96"),  # an IPv4 address as IPv6 once wrote it (RFC 4291 section 2.5.5.1)
    IPv6Network("64:ff9b:1::/48"),  # a NAT64 of our own network (RFC 8215)
    IPv6Network("fec0::/10"),  # site-local (RFC 3879)
)


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4, Teredo or NAT64 address; any other address as it is."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address.teredo is not None:
            return address.teredo[1]
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def is_public(address: Address) -> bool:
    """Whether a stranger's DNS may send us there. What wraps an IPv4 address is as public as that one."""
    inner = unwrapped(address)
    return inner.is_global and not inner.is_multicast and not any(inner in network for network in _NOT_PUBLIC)
