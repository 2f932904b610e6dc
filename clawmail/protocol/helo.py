"""Is what a client calls itself a name? RFC 5321 section 4.1.4 asks for a host name or an address literal.

A server may not refuse mail because the name does not lead to the client (same section), but no mail server calls
itself by a bare word, by an address without brackets, or by our own name.
"""

from __future__ import annotations

from ipaddress import ip_address

from clawmail.protocol.address import normalise_domain
from clawmail.protocol.dns import Address


def problem_of_helo(helo: str, ip: Address, hostname: str) -> str:
    """Why ``helo`` is not believed, in words for its sender; "" if it may be true. ``hostname`` is our own."""
    if helo.startswith("[") and helo.endswith("]"):
        return _problem_of_literal(helo[1:-1], ip)
    try:
        ip_address(helo)
    except ValueError:
        name = normalise_domain(helo)
    else:
        return "an address in EHLO stands in brackets (RFC 5321 section 4.1.3)"
    if name is None or "." not in name:
        return "say EHLO with your full host name"
    if name == hostname.lower().rstrip("."):
        return "that is our name, not yours"
    return ""


def _problem_of_literal(text: str, ip: Address) -> str:
    try:
        claimed = ip_address(text[5:] if text[:5].lower() == "ipv6:" else text)
    except ValueError:
        return "the address in EHLO cannot be read"
    return "" if claimed == ip else f"the address in EHLO is not yours, which is {ip}"
