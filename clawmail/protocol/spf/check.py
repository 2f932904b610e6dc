"""Sender Policy Framework: may this client send mail for that domain? (RFC 7208)

The owner of a domain publishes which hosts send its mail; the receiver of a message looks the record up under the
domain of MAIL FROM, or of HELO for a bounce, and evaluates it for the client's address. The record may name addresses,
refer to other names (``a``, ``mx``, ``ptr``, ``exists``), take in other records (``include``) or hand over to one
(``redirect``). As the questions are written by strangers, their number is limited (section 4.6.4).

Of the seven results, "none", "temperror" and "permerror" mean that there is no verdict; ``problem`` says why.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Literal

from clawmail.protocol.dns import Address, Resolver
from clawmail.protocol.domain_name import labels_of, to_ascii
from clawmail.protocol.spf.client import Client
from clawmail.protocol.spf.evaluate import Evaluation, Halt, RecordRead

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]

#: client addresses whose parsed form is remembered.
REMEMBERED_CLIENTS = 1_024
#: of ``problem``, which quotes names and terms of strangers.
MAX_PROBLEM_CHARS = 300


@dataclass(frozen=True, slots=True)
class SpfResult:
    """The verdict and how it came about."""

    #: the word of RFC 8601 section 2.7.2.
    result: Result
    #: the domain that was checked, lower case, as A-labels.
    domain: str
    #: which of the client's claims that domain is from (RFC 7208 sections 2.3 and 2.4).
    identity: Literal["mailfrom", "helo"]
    #: for "fail", what the domain's owner says to the sender (RFC 7208 section 6.2); "" when he says nothing.
    #: Text of a stranger, though printable ASCII only.
    explanation: str = ""
    #: why there is no verdict ("none", "temperror", "permerror"), in words, printable ASCII.
    problem: str = ""
    #: the term that matched, as written, "-all" or "ip4:192.0.2.0/24"; "" when none did.
    mechanism: str = ""
    #: the record that gave the result, after redirects.
    record: str = ""
    #: the name it was read at.
    record_domain: str = ""
    #: terms that cost questions, of the ten allowed.
    lookups: int = 0
    #: questions that brought nothing, of the two allowed.
    void_lookups: int = 0
    #: every record that was read, included ones too.
    records_read: tuple[RecordRead, ...] = ()


async def check_spf(
    resolver: Resolver,
    *,
    ip: str | Address,
    mail_from: str,
    helo: str,
    receiver: str = "unknown",
    now: float | None = None,
) -> SpfResult:
    """Check MAIL FROM, or HELO when ``mail_from`` is "" (RFC 7208 section 4). Never raises.

    ``ip`` is the client's address, ``receiver`` our own host name (the macro ``%{r}``), ``now`` seconds since 1970
    (``%{t}``). At most 123 questions are asked; hand in a ``BudgetedResolver`` to bound them and their time further.
    """
    identity: Literal["mailfrom", "helo"] = "mailfrom"
    sender = mail_from.strip("<>")
    if not sender:  # RFC 7208 2.4: the null reverse-path stands for "postmaster" at the HELO identity
        identity, sender = "helo", f"postmaster@{helo}"
    # RFC 7208 4.3: a sender without a local-part is "postmaster".
    local, _, domain = sender.rpartition("@")
    ascii_domain = to_ascii(domain.removesuffix("."))
    shown = (ascii_domain or domain).lower()
    address = _address(ip)
    if address is None:
        return SpfResult("none", shown, identity, problem="the client's address is not an IP address")
    labels = labels_of(ascii_domain) if ascii_domain else None
    # RFC 7208 4.3: "none" for a malformed name, an address literal, and a name of one label.
    if ascii_domain is None or labels is None or len(labels) < 2 or ascii_domain.startswith("["):
        return SpfResult("none", shown, identity, problem="the domain is not a full domain name")
    client = Client(address, local or "postmaster", ascii_domain, helo, receiver, time.time() if now is None else now)
    evaluation = Evaluation(resolver, client)
    result: Result
    term = problem = explanation = ""
    try:
        match = await evaluation.check_host(ascii_domain)
        if match is None:
            result, problem = "none", _readable(f"{shown} publishes no SPF record")
        else:
            result, term = match.result, match.term
            if result == "fail":
                explanation = await evaluation.explanation(match)
    except Halt as halt:
        match, result, problem = None, halt.result, _readable(halt.problem)
    read = evaluation.records_read
    record_domain, record = (match.domain, match.text) if match else read[-1] if read else ("", "")
    return SpfResult(
        result=result,
        domain=shown,
        identity=identity,
        explanation=explanation,
        problem=problem,
        mechanism=term,
        record=record,
        record_domain=record_domain,
        lookups=evaluation.lookups,
        void_lookups=evaluation.void_lookups,
        records_read=tuple(read),
    )


def _readable(problem: str) -> str:
    """``problem`` as printable ASCII: macros put anything into the names it quotes."""
    if not (problem.isascii() and problem.isprintable()):
        problem = ascii(problem)[1:-1]
    return problem if len(problem) <= MAX_PROBLEM_CHARS else problem[: MAX_PROBLEM_CHARS - 3] + "..."


@lru_cache(REMEMBERED_CLIENTS)
def _address(ip: str | Address) -> Address | None:
    """The client's address; what is IPv4 behind an IPv4-mapped one (RFC 7208 section 5). None for no address."""
    try:
        address = ip_address(str(ip).partition("%")[0])  # a zone id (RFC 4007) is local to this host
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
