"""Does a host's address have a name that leads back to it? The "iprev" check (RFC 8601 section 3).

The owner of an address range says in the reverse DNS what a host is called (PTR); the owner of that name says in the
forward DNS which addresses it has. When both agree the name is confirmed (FCrDNS). It proves little about a message,
but mail from hosts without a confirmed name is rarely wanted, and the name is what people recognise in a log.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import Literal, NamedTuple

from clawmail.protocol.dns import Address, Answer, Resolver

#: names of one address that are looked up; a PTR set can hold hundreds (RFC 8601 section 3 asks for a limit).
MAX_NAMES = 5


class IprevResult(NamedTuple):
    """The outcome for one address, in the words of RFC 8601 section 2.7.3."""

    result: Literal["pass", "fail", "temperror", "permerror"]
    #: the confirmed name; for "fail" the first name the reverse DNS gave; otherwise "".
    name: str
    #: why it did not pass, in words for people.
    problem: str
    #: the address that was looked at.
    ip: str = ""


async def check_iprev(resolver: Resolver, ip: str | Address) -> IprevResult:
    """Confirm the name of the host at ``ip``: PTR, then an address of each name (RFC 8601 section 3)."""
    try:
        address = ip_address(ip)
    except ValueError:
        return IprevResult("permerror", "", "not an IP address")
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    text = str(address)
    reverse = await resolver.ptr(address)
    if reverse.failed:
        return IprevResult("temperror", "", f"reverse name of {text}: {reverse.problem or 'DNS failure'}", text)
    if not reverse.found:
        # Section 2.7.3, permerror: "no PTR data are published for the connecting IP address".
        return IprevResult("permerror", "", f"{text} has no reverse name (PTR record)", text)
    failure = ""
    for name in reverse.records[:MAX_NAMES]:
        answer = await _forward(resolver, name, address)
        if address in answer.records:
            return IprevResult("pass", name, "", text)
        if answer.failed and not failure:
            failure = f"addresses of {name}: {answer.problem or 'DNS failure'}"
    if failure:
        # One name that could not be asked might have been the right one.
        return IprevResult("temperror", "", failure, text)
    name = reverse.records[0]
    return IprevResult("fail", name, f"the reverse name {name} does not lead back to {text}", text)


async def _forward(resolver: Resolver, name: str, address: Address) -> Answer[Address]:
    """The addresses of ``name``, of the family of ``address``."""
    if isinstance(address, IPv6Address):
        six = await resolver.aaaa(name)
        return Answer(six.status, six.records, problem=six.problem)
    four = await resolver.a(name)
    return Answer(four.status, four.records, problem=four.problem)
