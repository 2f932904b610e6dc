"""Pacing strangers: how many sessions, messages and megabytes one of them may have, and all of them together.

An IPv4 network is a /24, an IPv6 one a /64 (RFC 6177 section 2): addresses inside it cost their owner nothing. Rates
are token buckets: a minute's worth may come at once, then as much as flows back. All counts are of one process and
bounded in number. With ``limits.enabled = false`` nobody is paced; only the memory that messages on their way in may
take together is guarded whatever the settings say.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv4Address

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Refused
from clawmail.protocol.dns import Address
from clawmail.protocol.networks import network_of
from clawmail.smtpd.data import Collector, Problem
from clawmail.smtpd.replies import Hangup

#: senders whose rates are remembered; the one seen longest ago is forgotten first.
MAX_SENDERS = 50_000
MEGABYTE = 1_000_000
#: messages of one network may take the so-manieth part of the memory for all of them, and one message in any case.
NETWORK_SHARE = 4


class _Rates:
    """What is left to one sender."""

    __slots__ = ("messages", "octets", "seen_at")

    def __init__(self, messages: float, octets: float, seen_at: float) -> None:
        self.messages = messages
        self.octets = octets
        self.seen_at = seen_at


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

    def __init__(self, settings: Smtp, *, enabled: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.enabled = enabled
        self.octets_on_their_way = 0
        self._max_octets_on_their_way = settings.max_bytes_in_flight
        self._max_octets_of_network = max(settings.max_message_bytes, settings.max_bytes_in_flight // NETWORK_SHARE)
        self._octets_of_network: dict[str, int] = {}
        self._max_sessions = settings.max_connections
        self._max_of_network = settings.max_connections_per_network
        self._messages = settings.messages_per_minute
        self._octets = settings.megabytes_per_minute * MEGABYTE
        self._clock = clock
        self._sessions = 0
        self._of_network: dict[str, int] = {}
        self._rates: OrderedDict[str, _Rates] = OrderedDict()

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

    def begin_message(self, ip: Address) -> None:
        """A sender wants to send a message. Raises Refused when it has had its share of this minute."""
        if not self.enabled:
            return
        rates = self._of(ip)
        if rates.messages < 1:
            raise Refused(450, "4.7.1", f"more than {self._messages} messages a minute from your address")
        if rates.octets <= 0:
            raise Refused(450, "4.7.1", f"more than {self._octets // MEGABYTE} megabytes a minute from your address")
        rates.messages -= 1

    def count_octets(self, ip: Address, octets: int) -> None:
        """A message of that size came; it may overdraw the share, the next one waits."""
        if self.enabled:
            self._of(ip).octets -= octets

    def _of(self, ip: Address) -> _Rates:
        now, key = self._clock(), sender_of(ip)
        rates = self._rates.get(key)
        if rates is None:
            if len(self._rates) >= MAX_SENDERS:
                self._rates.popitem(last=False)
            rates = self._rates[key] = _Rates(self._messages, self._octets, now)
            return rates
        self._rates.move_to_end(key)
        minutes = (now - rates.seen_at) / 60
        rates.messages = min(self._messages, rates.messages + self._messages * minutes)
        rates.octets = min(self._octets, rates.octets + self._octets * minutes)
        rates.seen_at = now
        return rates


def sender_of(ip: Address) -> str:
    """Whom rates are counted for: an IPv4 address, an IPv6 /64."""
    return str(ip) if isinstance(ip, IPv4Address) else network_of(ip)
