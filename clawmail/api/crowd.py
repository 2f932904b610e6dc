"""Who is connected: so many of one network, so that no stranger takes the room of everybody else.

Counts are of one process. Our own machine is no stranger, and a reverse proxy of ours (``api.trust_proxy``) connects
for everybody: neither is counted.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import msgspec

from clawmail.base.settings import Settings
from clawmail.protocol.networks import network_of

#: our own machine.
SPARED = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

_BODY = msgspec.json.encode({"error": "Too many connections from your network", "code": "too_many_connections"})
#: what a client is told whose connection is closed before he has asked for anything (RFC 6585 section 4).
REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nServer: clawmail\r\nCache-Control: no-store\r\nRetry-After: 60\r\n"
    b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
) + _BODY


class Crowd:
    """Connections by network."""

    def __init__(self, settings: Settings) -> None:
        self._counts = settings.limits.enabled and not settings.api.trust_proxy
        self._most = settings.api.max_connections_per_network
        self._of_network: dict[str, int] = {}

    def enter(self, peer: str) -> str | None:
        """The network that a connection from the address ``peer`` is counted for, "" for none; None: there is no room.

        ``leave`` has to follow with a network.
        """
        address = ip_address(peer.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not self._counts or any(address in spared for spared in SPARED):
            return ""
        network = network_of(address)
        here = self._of_network.get(network, 0)
        if here >= self._most:
            return None
        self._of_network[network] = here + 1
        return network

    def leave(self, network: str) -> None:
        """A connection that was let in is gone."""
        if left := self._of_network[network] - 1:
            self._of_network[network] = left
        else:
            del self._of_network[network]
