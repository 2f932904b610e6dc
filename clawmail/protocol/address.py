"""Addresses that mail is sent to or taken for (RFC 5321, RFC 6531), and the domains of a message's authors.

``parse_address`` is strict: it folds the domain to lower-case A-labels (RFC 5890) and says None to what cannot be
delivered. The local part belongs to the receiving host and is never changed (RFC 5321 section 2.4). What a stranger
wrote into From or To is read in the opposite mood, by ``parse_mailboxes``, which never fails.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple

import idna

from .mime.charset import clean
from .mime.mailboxes import MAX_FIELD_OCTETS, Mailbox, parse_mailboxes

__all__ = [
    "Address",
    "Mailbox",
    "author_domains",
    "folded",
    "folded_abroad",
    "normalise_domain",
    "parse_address",
    "parse_mailboxes",
]

# RFC 5321 section 4.5.3.1
MAX_LOCAL_OCTETS = 64
MAX_DOMAIN_OCTETS = 255
MAX_ADDRESS_OCTETS = 254  # a path of 256 with its angle brackets (erratum 1690)
#: code points of a domain that are handed to IDNA, whose cost grows faster than its input.
MAX_IDNA_CHARS = 255
#: octets of all From fields together that are searched for authors: as many as are read to be shown, so that nobody is
#: shown who was not judged.
MAX_AUTHOR_OCTETS = MAX_FIELD_OCTETS


class Address(NamedTuple):
    """An address mail can be sent to."""

    #: as written, but without needless quotes (RFC 5321 section 4.1.2: the two forms are the same mailbox).
    local: str
    #: lower-case A-labels without the last dot, or an address literal in brackets.
    domain: str

    @property
    def smtputf8(self) -> bool:
        """The local part needs the SMTPUTF8 extension (RFC 6531)."""
        return not self.local.isascii()

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"


# atext of RFC 5322 section 3.2.3, and everything beyond ASCII (RFC 6531 section 3.3)
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]+"
_DOT_ATOM = re.compile(rf"{_ATEXT}(?:\.{_ATEXT})*")
# Quoted-string = DQUOTE *QcontentSMTP DQUOTE      (RFC 5321 section 4.1.2)
_QUOTED_LOCAL = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"')
# RFC 952 and 1123 names; "_" is no host name but is seen in working mail domains.
_ASCII_DOMAIN = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_ANY_DOT = re.compile("[\u3002\uff0e\uff61]")  # dots of other scripts that UTS 46 maps to "."


def parse_address(text: str) -> Address | None:
    """``text`` ("local@domain", blanks around it allowed) as an address, or None when no mail can go there.

    Checks the grammar and lengths of RFC 5321 sections 4.1.2 and 4.5.3.1 with the UTF-8 of RFC 6531; whether the
    domain exists is not asked.
    """
    text = text.strip(" \t\r\n")
    if len(text) > MAX_ADDRESS_OCTETS + MAX_IDNA_CHARS:
        return None
    local, at, host = text.rpartition("@")
    if not at or not _DOT_ATOM.fullmatch(local):
        quoted = _QUOTED_LOCAL.fullmatch(local)
        if quoted is None:
            return None
        plain = re.sub(r"\\(.)", r"\1", quoted[1])
        if _DOT_ATOM.fullmatch(plain):
            local = plain
    if clean(local) != local or len(local.encode()) > MAX_LOCAL_OCTETS:
        return None
    domain = _address_literal(host) if host.startswith("[") else normalise_domain(host)
    if domain is None or len(local.encode()) + 1 + len(domain) > MAX_ADDRESS_OCTETS:
        return None
    return Address(local, domain)


def folded(address: str) -> str:
    """What all writings of an inbox of ours, or of its local part, have in common: lower case, composed (NFC).

    Python does it, never the database, whose idea of case follows its locale. What is not ASCII is kept in this form.
    """
    if address.isascii():
        return address.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", address).lower())


def folded_abroad(address: str) -> str:
    """An address of somebody else as it is compared: A to Z are folded and nothing more.

    A local part means what its own host says (RFC 5321 section 2.4), and no host is known to tell A from a. This is
    exactly ``lower(… COLLATE "C")`` in PostgreSQL, whatever its locale.
    """
    return address.lower() if address.isascii() else address.translate(_ASCII_LOWER)


@lru_cache(maxsize=4096)
def normalise_domain(text: str) -> str | None:
    """A domain name as lower-case A-labels without the last dot, or None when it is none (RFC 5890, UTS 46)."""
    if len(text) > MAX_IDNA_CHARS:
        return None
    if not text.isascii():
        try:
            text = idna.encode(_ANY_DOT.sub(".", text), uts46=True, transitional=False).decode("ascii")
        except (idna.IDNAError, UnicodeError, ValueError, IndexError):
            return None
    text = text.lower().removesuffix(".")
    return text if _ASCII_DOMAIN.fullmatch(text) and len(text) <= MAX_DOMAIN_OCTETS - 2 else None


def _address_literal(host: str) -> str | None:
    # address-literal = "[" ( IPv4-address-literal / IPv6-address-literal ) "]"      (RFC 5321 section 4.1.3)
    if not host.endswith("]"):
        return None
    try:
        if host[:6].lower() == "[ipv6:":
            return f"[IPv6:{IPv6Address(host[6:-1])}]" if "%" not in host else None
        return f"[{IPv4Address(host[1:-1])}]"
    except AddressValueError:
        return None


def author_domains(from_fields: Sequence[bytes]) -> list[str]:
    """The domain of every author of every From field, each domain once, in order (RFC 9989 section 4.7).

    ``from_fields`` are the raw field bodies. A domain that cannot be made an A-label is returned as written, in lower
    case: it is an author all the same, so that a broken one beside a good one is not overlooked. A mailbox without a
    domain is left out.
    """
    domains: dict[str, None] = {}
    octets_left = MAX_AUTHOR_OCTETS
    for field in from_fields:
        looked_at, octets_left = field[:octets_left], max(0, octets_left - len(field))
        for mailbox in parse_mailboxes(looked_at):
            _, at, host = mailbox.address.rpartition("@")
            if at and host:
                domains[normalise_domain(host) or host.lower()] = None
    return list(domains)
