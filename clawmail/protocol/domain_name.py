"""Domain names: what can be asked in the DNS, and international names brought into the form that is (RFC 1035, 5890).

A name here is text with dots between labels. The DNS itself takes any octet in a label; what it cannot carry is an
empty label, one over 63 octets, or a name over 255 octets on the wire, which is 253 characters of text (RFC 1035
section 2.3.4, RFC 7208 section 7.3). Names in mail may also hold non-ASCII labels (RFC 6531); they are looked up as
A-labels (RFC 5891 section 5), after the mapping people expect of what they type (UTS 46).
"""

from __future__ import annotations

import idna

MAX_LABEL_OCTETS = 63
#: of the text form, without the last dot.
MAX_NAME_OCTETS = 253


def labels_of(name: str) -> list[bytes] | None:
    """The labels of ``name`` as octets, without the root's; None for what is no DNS name. The root itself is []."""
    octets = name.encode("utf-8", "surrogateescape").removesuffix(b".")
    if not octets:
        return [] if name == "." else None
    if len(octets) > MAX_NAME_OCTETS:
        return None
    labels = octets.split(b".")
    return labels if all(0 < len(label) <= MAX_LABEL_OCTETS for label in labels) else None


def to_ascii(domain: str) -> str | None:
    """``domain`` with its U-labels turned into A-labels; None when that is not possible. ASCII comes back as it is."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except (UnicodeError, ValueError, IndexError):
        return None
