"""The PROXY header: who is behind a load balancer (HAProxy's "PROXY protocol", versions 1 and 2).

Whoever may send one may be anybody he likes, so it is read only from networks that the settings name. From elsewhere a
connection is what it is, and a PROXY header is just a client that talks before the greeting.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from aiosmtpd.proxy_protocol import get_proxy

from clawmail.base.log import logger
from clawmail.protocol.dns import Address
from clawmail.smtpd.connection import Connection, Disconnected, TimedOut

#: seconds in which the header has to be there; the balancer sends it at once.
HEADER_SECONDS = 5.0
#: octets of a version 1 header with its CRLF (its specification, section 2.1).
MAX_V1_BYTES = 107

Network = IPv4Network | IPv6Network

log = logger("smtp")


def parse_networks(networks: Sequence[str]) -> tuple[Network, ...]:
    """The setting as networks. Raises ValueError for what is none."""
    try:
        return tuple(ip_network(network) for network in networks)
    except ValueError as error:
        raise ValueError(f"smtp.proxy_networks: {error}") from None


async def client_behind(connection: Connection, peer: Address, trusted: Sequence[Network]) -> Address:
    """The client's own address: from the header if ``peer`` is trusted, else ``peer``. Raises Disconnected."""
    if not any(peer in network for network in trusted if network.version == peer.version):
        return peer
    try:
        header = await get_proxy(_Reader(connection))
    except TimedOut:
        raise Disconnected from None
    if not header.valid and not _local(header):
        log.warning("no PROXY header where one has to be", peer=str(peer), problem=header.error)
        raise Disconnected
    # UNKNOWN (v1) and LOCAL (v2): the balancer itself, looking whether we are well.
    return ip_address(str(header.src_addr)) if header.src_addr is not None and not _local(header) else peer


def _local(header: object) -> bool:
    return getattr(header, "command", None) == 0 and not getattr(header, "error", "")


class _Reader:
    """What aiosmtpd's parser reads from."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._deadline = connection.loop.time() + HEADER_SECONDS

    async def read(self, n: int = MAX_V1_BYTES) -> bytes:
        return await self._connection.read_block(self._deadline, n)

    async def readexactly(self, n: int) -> bytes:
        octets = b""
        while len(octets) < n:
            octets += await self.read(n - len(octets))
        return octets

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await self._connection.read_line(self._deadline, MAX_V1_BYTES)
