"""Writing Authentication-Results: what a receiver found out about a message, for whoever reads it next (RFC 8601).

One field holds every result, behind the name of the host that vouches for them (the *authserv-id*):

    Authentication-Results: mx.example.org;
        spf=pass smtp.mailfrom=ann@example.com;
        dkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256;
        dmarc=pass (p=REJECT) header.from=example.com policy.dmarc=reject

Readers believe a field that bears the name of their own host, so what a stranger chose (his address, a selector, a host
name) must not be able to add a result: it is written only where it is plain, and otherwise left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import authres

from clawmail.protocol.arc import ArcResult
from clawmail.protocol.dkim.verify import DkimResult
from clawmail.protocol.dmarc import DmarcResult
from clawmail.protocol.iprev import IprevResult
from clawmail.protocol.spf.check import SpfResult

FIELD_NAME = "Authentication-Results"

#: signatures reported in one field; only the topmost eight of a message are judged anyway.
MAX_DKIM_CLAUSES = 8
#: characters of a reason.
MAX_REASON = 120
#: characters of a folded line, where a space allows it (RFC 5322 section 2.1.1).
LINE_LENGTH = 78

# What may be written as it is. ``authres`` puts quotes around a value that is not a token (RFC 2045), except around one
# with an "@": so an address is written only as dot-atom and domain, and nothing with "@", quotes or ";" gets that far.
_DOMAIN = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\Z")
_LITERAL = re.compile(r"\[?[0-9A-Za-z:.%]+\]?\Z")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_TOKEN = re.compile(r"[A-Za-z0-9-]+\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]+\Z")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 .,:=_/+'-]+")
MAX_VALUE = 255
#: clauses that are remembered as they were written: those of one sender are the same from mail to mail.
REMEMBERED_CLAUSES = 1_024


def write_results(
    authserv_id: str,
    *,
    spf: SpfResult | None,
    mail_from: str,
    dkim: Sequence[DkimResult],
    dmarc: DmarcResult,
    arc: ArcResult,
    iprev: IprevResult | None,
) -> str:
    """The value of one Authentication-Results field, on one line, without the field's name (RFC 8601 section 2.2).

    ``authserv_id`` is our host name. ``mail_from`` is the envelope sender that ``spf`` was checked for. What is None
    was not checked and is not mentioned; an empty ``dkim`` is a message without a signature.
    """
    clauses = []
    if iprev is not None:
        clauses.append(_iprev_clause(iprev))
    if spf is not None:
        clauses.append(_spf_clause(spf, mail_from))
    clauses += [_dkim_clause(result) for result in dkim[:MAX_DKIM_CLAUSES]] or [_clause("dkim", "none")]
    clauses += [_dmarc_clause(dmarc), _arc_clause(arc)]
    header = authres.AuthenticationResultsHeader(authserv_id=authserv_id, results=clauses)
    return str(header.header_value())


def fold(value: str) -> str:
    """A value of ``write_results`` on lines of a header: one result a line, continued where it is long."""
    lines: list[str] = []
    # No ";" ever stands inside a quoted string or comment here, so each one parts two results.
    for number, clause in enumerate(value.split("; ")):
        line = clause if number == 0 else "\t" + clause
        while len(line) > LINE_LENGTH and (space := line.rfind(" ", 2, LINE_LENGTH)) > 0:
            lines.append(line[:space])
            line = "\t " + line[space + 1 :]
        lines.append(line + ";")
    return "\r\n".join(lines)[:-1]


def results_field(value: str) -> bytes:
    """The whole field for a value of ``write_results``, folded, with its final CRLF."""
    return f"{FIELD_NAME}: {fold(value)}\r\n".encode()


def _clause(method: str, result: str, *properties: tuple[str, str, str], comment: str = "", reason: str = "") -> str:
    """One ``resinfo``; properties are (ptype, property, value), and those without a value are left out."""
    return str(
        authres.AuthenticationResult(
            method,
            result=result,
            result_comment=comment or None,
            reason=" ".join(_NOT_PLAIN.sub(" ", reason[:MAX_REASON]).split()) or None,
            properties=[
                authres.AuthenticationResultProperty(kind, name, value) for kind, name, value in properties if value
            ],
        )
    )


_remembered_clause = lru_cache(REMEMBERED_CLAUSES)(_clause)


def _plain(value: str, pattern: re.Pattern[str]) -> str:
    """``value`` where it is of the harmless form, else ""."""
    return value if len(value) <= MAX_VALUE and pattern.match(value) else ""


def _spf_clause(spf: SpfResult, mail_from: str) -> str:
    if spf.identity == "helo":
        helo = _plain(spf.domain, _DOMAIN) or _plain(spf.domain, _LITERAL)
        return _remembered_clause("spf", spf.result, ("smtp", "helo", helo), reason=spf.problem)
    # Section 2.7.2: the local-part may be left out, and is where it is more than a dot-atom.
    local = _plain(mail_from.rpartition("@")[0], _DOT_ATOM)
    domain = _plain(spf.domain, _DOMAIN)
    sender = f"{local}@{domain}" if local and domain else domain or _plain(spf.domain, _LITERAL)
    return _remembered_clause("spf", spf.result, ("smtp", "mailfrom", sender), reason=spf.problem)


def _dkim_clause(dkim: DkimResult) -> str:
    return _clause(
        "dkim",
        dkim.result,
        ("header", "d", _plain(dkim.signing_domain, _DOMAIN)),
        ("header", "s", _plain(dkim.selector, _DOMAIN)),
        ("header", "a", _plain(dkim.algorithm, _TOKEN)),
        # RFC 6008: with several signatures of one domain, the start of b= tells which one is meant.
        ("header", "b", _plain(dkim.signature_start[:8], _BASE64)),
        comment="the key is in test mode" if dkim.testing else "",
        reason="" if dkim.result == "pass" else dkim.reason,
    )


def _dmarc_clause(dmarc: DmarcResult) -> str:
    author = _plain(dmarc.header_from, _DOMAIN) or _plain(dmarc.header_from, _LITERAL)
    return _remembered_clause(
        "dmarc",
        dmarc.result,
        ("header", "from", author),
        ("policy", "dmarc", dmarc.policy or ""),  # RFC 9989 section 9.1
        comment=f"p={dmarc.published.p.upper()}" if dmarc.policy and dmarc.published else "",
        reason=dmarc.problem,
    )


def _arc_clause(arc: ArcResult) -> str:
    oldest = str(arc.oldest_pass) if arc.result == "pass" and arc.oldest_pass >= 0 else ""  # RFC 8617 section 10.2
    reason = "" if arc.result in ("pass", "none") else arc.reason
    comment = f"i={arc.instance}" if arc.instance else ""
    return _remembered_clause("arc", arc.result, ("header", "oldest-pass", oldest), comment=comment, reason=reason)


def _iprev_clause(iprev: IprevResult) -> str:
    name = _plain(iprev.name, _DOMAIN)
    return _remembered_clause("iprev", iprev.result, ("policy", "iprev", _plain(iprev.ip, _LITERAL)), comment=name)
