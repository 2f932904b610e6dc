"""Pacing strangers: how many sessions, messages and megabytes one of them may have, and all of them together.

An IPv4 network is a /24, an IPv6 one a /64 (RFC 6177 section 2): addresses inside it cost their owner nothing. Rates
are token buckets: a minute's worth may come at once, then as much as flows back, at all processes together
(``core.rates``). Sessions and memory are those of one process, which is what they protect. With ``limits.enabled =
false`` nobody is paced; only the memory that messages on their way in may take together is guarded whatever the
settings say.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Refused
from clawmail.core.rates import Rates
from clawmail.protocol.dns import Address
from clawmail.protocol.networks import network_of
from clawmail.smtpd.data import Collector, Problem
from clawmail.smtpd.replies import Hangup

MEGABYTE = 1_000_000
#: messages of one network may take the so-manieth part of the memory for all of them, and one message in any case.
NETWORK_SHARE = 4
#: what the names of buckets begin with.
_MESSAGES, _OCTETS = "door/messages/", "door/octets/"


class Load:
    """The memory that one message on its way in takes."""

    __slots__ = ("_collector", "_counted", "_ip", "_pacing")

    def __init__(self, pacing: Pacing, collector: Collector, ip: Address) -> None:
        self._pacing = pacing
        self._collector = collector
        self._ip = ip
        self._counted = 0

    def grown(self) -> None:
        """Counts what has come; a message for which there is no room is dropped, not kept waiting."""
        now = self._collector.size
        has_room = self._pacing.hold(self._ip, now - self._counted)
        self._counted = now
        if not has_room:
            self._collector.refuse(Problem.NO_ROOM)
            self.release()

    def release(self) -> None:
        """The message is gone from memory."""
        self._pacing.hold(self._ip, -self._counted)
        self._counted = 0


class Pacing:
    """The counts of one process."""

    def __init__(self, settings: Smtp, rates: Rates, *, enabled: bool) -> None:
        self.enabled = enabled
        self.octets_on_their_way = 0
        self._max_octets_on_their_way = settings.max_bytes_in_flight
        self._max_octets_of_network = max(settings.max_message_bytes, settings.max_bytes_in_flight // NETWORK_SHARE)
        self._octets_of_network: dict[str, int] = {}
        self._max_sessions = settings.max_connections
        self._max_of_network = settings.max_connections_per_network
        self._messages = settings.messages_per_minute
        self._octets = settings.megabytes_per_minute * MEGABYTE
        self._rates = rates
        self._sessions = 0
        self._of_network: dict[str, int] = {}

    def enter(self, ip: Address) -> None:
        """A session begins; ``leave`` has to follow. Raises Hangup when there are too many."""
        if self.enabled and self._sessions >= self._max_sessions:
            raise Hangup(421, "4.3.2", "too many connections, try again later")
        network = network_of(ip)
        here = self._of_network.get(network, 0)
        if self.enabled and here >= self._max_of_network:
            raise Hangup(421, "4.7.0", f"too many connections from {network}, try again later")
        self._sessions += 1
        self._of_network[network] = here + 1

    def leave(self, ip: Address) -> None:
        """A session that was let in has ended."""
        self._sessions -= 1
        network = network_of(ip)
        left = self._of_network[network] - 1
        if left:
            self._of_network[network] = left
        else:
            del self._of_network[network]

    def hold(self, ip: Address, octets: int) -> bool:
        """A message on its way grows, or shrinks (less than 0); whether there is room for what has come.

        Somebody who begins large messages and does not end them must not take the room of everybody else.
        """
        network = network_of(ip)
        here = self._octets_of_network.get(network, 0) + octets
        if here:
            self._octets_of_network[network] = here
        else:
            self._octets_of_network.pop(network, None)
        self.octets_on_their_way += octets
        if self.octets_on_their_way > self._max_octets_on_their_way:
            return False
        return not self.enabled or here <= self._max_octets_of_network

    async def begin_message(self, ip: Address) -> None:
        """A sender wants to send a message. Raises Refused when it has had its share of this minute."""
        if not self.enabled:
            return
        sender = sender_of(ip)
        if not await self._rates.has_any(_OCTETS + sender, self._octets):
            raise Refused(450, "4.7.1", f"more than {self._octets // MEGABYTE} megabytes a minute from your address")
        if not await self._rates.take(_MESSAGES + sender, self._messages, 1):
            raise Refused(450, "4.7.1", f"more than {self._messages} messages a minute from your address")

    def count_octets(self, ip: Address, octets: int) -> None:
        """A message of that size came; it may overdraw the share, the next one waits."""
        if self.enabled:
            self._rates.draw(_OCTETS + sender_of(ip), self._octets, octets)

    async def close(self) -> None:
        """Nobody comes any more."""
        await self._rates.close()


def sender_of(ip: Address) -> str:
    """Whom rates are counted for: an IPv4 address, an IPv6 /64."""
    return str(ip) if isinstance(ip, IPv4Address) else network_of(ip)
