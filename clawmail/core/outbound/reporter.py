"""Who sent a report? The domains whose own mail system it comes from, as far as SPF and DKIM prove it.

A host that took our mail may say what became of it, and so may the domain it was for. Their users may not: a user sends
through the same hosts, with the same signature, whatever text he likes, and a signed text can be sent again from
anywhere. What he does not get is the names of the system. So SPF counts for the null sender, where it proves the host
itself (RFC 7208 section 2.3), or for such a name in MAIL FROM; DKIM only for such a name in the From it covers.
"""

from __future__ import annotations

from collections.abc import Collection

from clawmail.core.authenticate import Verdict
from clawmail.protocol.headers import RawMessage
from clawmail.protocol.mime.parse import ParsedMessage

#: local parts that old servers put into From of a bounce which they send with a sender that is not null.
REPORTING_AUTHORS = frozenset({"mailer-daemon", "postmaster"})
#: local parts that no user of a domain is given (RFC 2142 sections 2 and 4; RFC 5321 section 4.5.1).
SYSTEM_NAMES = REPORTING_AUTHORS | {"abuse"}


def may_be_report(mail_from: str, message: RawMessage, parsed: ParsedMessage) -> bool:
    """Whether it is worth looking for a bounce or a complaint in a message; most mail is neither."""
    if not mail_from:
        return True
    content_type = message.first(b"content-type")
    author = (parsed.from_.address or parsed.from_.name).partition("@")[0].lower() if parsed.from_ else ""
    return author in REPORTING_AUTHORS or (content_type is not None and b"report" in content_type.value.lower())


def speakers(verdict: Verdict, author: str) -> frozenset[str]:
    """The domains whose mail system sent a message: lower-case A-labels. ``author``: the address in its From."""
    spf, of_author = verdict.spf, verdict.dmarc.header_from
    proved = set()
    if spf is not None and spf.result == "pass" and (spf.identity == "helo" or _of_system(verdict.mail_from)):
        proved.add(spf.domain)
    if _of_system(author):
        passed = (signature.signing_domain for signature in verdict.dkim if signature.result == "pass")
        proved |= {domain for domain in passed if _within(of_author, domain)}
    return frozenset(proved)


def speak_for(proved: Collection[str], destination: str, host: str) -> bool:
    """Whether one of the ``proved`` domains is, or is above, the recipient's domain or the host that took the mail."""
    return any(_within(name, domain) for name in (destination, host.lower()) for domain in proved)


def _of_system(address: str) -> bool:
    return address.rpartition("@")[0].lower() in SYSTEM_NAMES


def _within(name: str, domain: str) -> bool:
    # A bare top-level name speaks for nobody below it.
    return "." in domain and f".{name}".endswith(f".{domain}")
