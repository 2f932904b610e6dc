"""Patterns by which a tenant names senders: an address, a host, everything below a host, or a network."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import TypeVar

from clawmail.protocol.address import normalise_domain, parse_address
from clawmail.protocol.dns import Address

V = TypeVar("V")


def parse_pattern(text: str) -> str | None:
    """A pattern in its one form, lower case with A-labels; None if it is none of the four.

    ``user@host``, ``host`` (its addresses), ``.host`` (and whatever lies below it), ``192.0.2.0/24``.
    """
    text = text.strip().lower()
    if "@" in text:
        address = parse_address(text)
        return str(address) if address else None
    if "/" in text:
        try:
            return str(ip_network(text, strict=False))
        except ValueError:
            return None
    host = normalise_domain(text.removeprefix("."))
    return None if host is None else f".{host}" if text.startswith(".") else host


def matching_verdict(rules: Mapping[str, V], ip: Address, mail_from: str) -> V | None:
    """What the most exact pattern says: address before host, host before what it lies below, any before networks.

    Costs a look-up for each label of the sender's host and each prefix length, whatever the number of rules.
    """
    if not rules:
        return None
    address = parse_address(mail_from)
    names = []
    if address is not None:
        names = [str(address).lower(), address.domain]
        labels = address.domain.split(".")
        names += ["." + ".".join(labels[i:]) for i in range(len(labels))]
    for name in names:
        if name in rules:
            return rules[name]
    for length in range(ip.max_prefixlen, -1, -1):
        network = str(ip_network((ip, length), strict=False))
        if network in rules:
            return rules[network]
    return None
