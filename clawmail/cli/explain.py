"""Results as a person wants them: what was found, which record said so and where it was read, and what to mend.

Every function gives lines; a line is a (style, text) pair for ``rich``. The words carry everything, colour only
underlines it, so the output reads the same in a log or a pipe. Text that strangers wrote is shown with its control
characters made visible, and never taken for markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from clawmail.core.authenticate import Verdict
from clawmail.protocol.arc import ArcResult
from clawmail.protocol.dkim.verify import DkimResult
from clawmail.protocol.dmarc import DmarcResult
from clawmail.protocol.iprev import IprevResult
from clawmail.protocol.spf.check import SpfResult

Line = tuple[str, str]

_STYLES = {"pass": "bold green", "fail": "bold red", "permerror": "bold red", "policy": "bold red"}
_OTHER_STYLE = "bold yellow"
#: characters of a line; records of 64 KB are not for reading.
MAX_LINE = 1_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_SPF_ADVICE = {
    "fail": "If this host should send mail for the domain, add it to the record; else the mail is forged.",
    "softfail": "The record ends in ~all: the domain thinks this host is not its own. Add the host if it is.",
    "neutral": "The record says nothing about this host. End it in -all or ~all and name every host that sends.",
    "none": "Publish one TXT record that starts with v=spf1 at the domain.",
    "temperror": "The DNS did not answer. Try again; if it stays, look at the domain's name servers.",
    "permerror": "The record cannot be evaluated by anyone until this is mended.",
}
_DKIM_ADVICE = {
    "fail": "The message was changed after signing, or signed with another key than the one published.",
    "policy": "Sign with rsa-sha256 and a key of 2048 bits (or ed25519-sha256), and without l=.",
    "temperror": "The DNS did not answer. Try again; if it stays, look at the domain's name servers.",
    "permerror": "Publish the key at <selector>._domainkey.<domain>, or mend the signature.",
}


def print_lines(lines: Iterable[Line]) -> None:
    """Write lines to the standard output, in colour where that is a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for style, text in lines:
        console.print(Text(text, style=style))


def shown(text: str) -> str:
    """A stranger's text for a terminal: control characters as U+FFFD, and not endless."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + " …"


def _head(method: str, result: str, rest: str = "") -> Line:
    return _STYLES.get(result, _OTHER_STYLE), f"{method}: {result}{'  ' + shown(rest) if rest else ''}"


def _facts(*facts: tuple[str, str]) -> Iterator[Line]:
    for name, value in facts:
        if value:
            yield "", f"  {name}: {shown(value)}"


def explain_spf(spf: SpfResult) -> Iterator[Line]:
    """The result, the term that matched, and every record that was read on the way."""
    identity = "MAIL FROM" if spf.identity == "mailfrom" else "HELO (the sender is null)"
    yield _head("SPF", spf.result, spf.domain)
    matched = spf.mechanism
    if not matched and spf.result == "neutral":
        matched = "none; a record without redirect= ends in ?all"
    yield from _facts(("checked", identity), ("matched", matched), ("why", spf.problem))
    for read in spf.records_read:
        yield "", f"  read at {shown(read.domain)}: {shown(read.text)}"
    counted = f"{spf.lookups} of 10 lookups, {spf.void_lookups} of 2 void" if spf.lookups else ""
    yield from _facts(("cost", counted), ("the domain says", spf.explanation))
    yield from _facts(("to do", _SPF_ADVICE.get(spf.result, "")))


def explain_dkim(verdict: Verdict) -> Iterator[Line]:
    """Each signature, topmost first."""
    if not verdict.dkim:
        yield _head("DKIM", "none", "the message has no signature")
        yield from _facts(("to do", "Sign outgoing mail with a key of the domain in From."))
    for signature in verdict.dkim:
        yield from _explain_signature(signature, verdict.aligned(signature), verdict.dmarc.header_from)


def _explain_signature(signature: DkimResult, aligned: bool, author: str) -> Iterator[Line]:
    yield _head("DKIM", signature.result, signature.signing_domain)
    key = f"{signature.selector}._domainkey.{signature.signing_domain}" if signature.selector else ""
    bits = f", {signature.key_bits} bits" if signature.key_bits else ""
    yield from _facts(
        ("key", f"{key} ({signature.algorithm}{bits})" if key else ""),
        ("why", signature.reason),
        ("note", "the key says t=y: the domain is testing DKIM" if signature.testing else ""),
    )
    if author and not aligned:
        yield "", f"  not aligned with the author's domain {shown(author)}"
    yield from _facts(("to do", _DKIM_ADVICE.get(signature.result, "")))


def explain_dmarc(dmarc: DmarcResult) -> Iterator[Line]:
    """The walk through the DNS, the record that applies, and what aligned."""
    yield _head("DMARC", dmarc.result, dmarc.header_from)
    for step in dmarc.steps:
        yield "", f"  asked {shown(str(step))}"
    yield from _facts(("why", dmarc.problem))
    if dmarc.policy is not None:
        testing = " (one level lower than published: the record says t=y)" if dmarc.test_mode else ""
        yield from _facts(
            ("organization", dmarc.domain),
            ("policy", f"{dmarc.policy}{testing}, from _dmarc.{dmarc.record_domain}"),
            ("SPF", _alignment(dmarc.spf_aligned, dmarc.spf_strict)),
            ("DKIM", _alignment(dmarc.dkim_aligned, dmarc.dkim_strict)),
        )
    for note in dmarc.notes:
        yield from _facts(("the record", note))
    yield from _facts(("to do", _dmarc_advice(dmarc)))


def _alignment(identifier: str | None, strict: bool) -> str:
    mode = "strict" if strict else "relaxed"
    return f"{identifier} is aligned ({mode})" if identifier else f"nothing that passed is aligned ({mode})"


def _dmarc_advice(dmarc: DmarcResult) -> str:
    if dmarc.result == "fail":
        return f"Sign with d={dmarc.header_from}, or send with a MAIL FROM below {dmarc.domain} that SPF passes."
    if dmarc.result == "none" and dmarc.record is None:
        return f"Publish a TXT record at _dmarc.{dmarc.header_from}, to begin with: v=DMARC1; p=none; rua=mailto:…"
    if dmarc.result == "none":
        return "Give the record a valid p= (none, quarantine or reject)."
    if dmarc.result == "permerror":
        return "Put one From field with addresses of one domain into the message."
    if dmarc.result == "temperror":
        return "The DNS did not answer. Try again; if it stays, look at the domain's name servers."
    return ""


def explain_arc(arc: ArcResult) -> Iterator[Line]:
    """The chain, and who sealed it."""
    yield _head("ARC", arc.result, f"{arc.instance} sealed by {', '.join(arc.sealers)}" if arc.sealers else "")
    yield from _facts(("why", arc.reason if arc.result != "pass" else ""))


def explain_iprev(iprev: IprevResult) -> Iterator[Line]:
    """The reverse name and whether it is confirmed."""
    yield _head("Reverse name", iprev.result, iprev.name)
    yield from _facts(("why", iprev.problem))
    if iprev.result in ("fail", "permerror"):
        yield from _facts(("to do", f"Give {iprev.ip} a PTR record, and its name an address record that leads back."))


def explain_verdict(verdict: Verdict, hostname: str) -> Iterator[Line]:
    """Everything about one message, and the field that would be written."""
    if verdict.iprev is not None:
        yield from explain_iprev(verdict.iprev)
    if verdict.spf is not None:
        yield from explain_spf(verdict.spf)
    else:
        yield _OTHER_STYLE, "SPF: not checked  give --ip, --mail-from and --helo"
    yield from explain_dkim(verdict)
    yield from explain_dmarc(verdict.dmarc)
    yield from explain_arc(verdict.arc)
    yield "", f"Authentication-Results: {shown(verdict.authentication_results(hostname))}"
