"""Who really sent this? SPF, DKIM, DMARC and ARC of one message, joined into one verdict.

Each protocol proves something else: SPF that the host may use the envelope's domain, DKIM that a domain signed the
text, ARC what an earlier receiver saw. DMARC asks whether any of it speaks for the author in From. They are asked one
after the other, each only for what it needs, out of one budget of DNS questions and time: whoever wrote the message
chose most of the names, and must not be able to choose what judging it costs.

Nothing here decides what happens to the message; that is ``core.receive`` and its settings.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clawmail.protocol.address import author_domains
from clawmail.protocol.arc import ArcResult, verify_arc
from clawmail.protocol.authres import write_results
from clawmail.protocol.dkim.verify import DkimResult, verify_dkim
from clawmail.protocol.dmarc import DmarcResult, evaluate_dmarc
from clawmail.protocol.dns import Address, BudgetedResolver, Resolver
from clawmail.protocol.headers import HeaderField, RawMessage
from clawmail.protocol.iprev import IprevResult
from clawmail.protocol.spf.check import SpfResult, check_spf

#: DNS questions that judging one message may cost.
MAX_QUESTIONS = 50
#: seconds after which no further question is begun; the last one has its own timeout (5 s), so 20 s is the worst.
MAX_SECONDS = 15.0

#: questions and seconds kept back from SPF for what comes after it, and from DKIM for DMARC. Whoever wrote the message
#: chose the names that SPF and DKIM ask for, and their answers must not be able to hide the author's policy.
AFTER_SPF = (20, 8.0)
AFTER_DKIM = (12, 4.0)

#: octets of From above which its authors are looked for in a thread: this much takes two milliseconds at worst.
CHEAP_FROM_OCTETS = 2 * 1024

#: characters of one text in the API's object; what strangers wrote can be endless.
MAX_TEXT = 1_000

#: what neither PostgreSQL's text and JSON nor a terminal should see: control characters and lone surrogates.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

#: which DKIM result stands for several signatures, in the order of how much it says.
_TELLING = ("pass", "temperror", "policy", "fail", "neutral", "permerror")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything found out about who sent a message."""

    #: None when there was no client address to check.
    spf: SpfResult | None
    #: one for each signature that was judged, topmost first; () for a message without one.
    dkim: tuple[DkimResult, ...]
    dmarc: DmarcResult
    arc: ArcResult
    #: None when it was not looked up.
    iprev: IprevResult | None
    #: the envelope sender, "" for the null sender.
    mail_from: str
    #: the client's address as text, "" when unknown.
    ip: str
    #: the host that judged.
    hostname: str

    def authentication_results(self, authserv_id: str) -> str:
        """The value of the Authentication-Results field, on one line (RFC 8601); ``authres.fold`` folds it."""
        return write_results(
            authserv_id,
            spf=self.spf,
            mail_from=self.mail_from,
            dkim=self.dkim,
            dmarc=self.dmarc,
            arc=self.arc,
            iprev=self.iprev,
        )

    def aligned(self, signature: DkimResult) -> bool:
        """Whether a signature's domain is aligned with the author (RFC 9989 section 4.10.2).

        For one that did not pass it says whether it would align, as far as that is known without asking the DNS.
        """
        domain, author = signature.signing_domain, self.dmarc.header_from
        if signature.result == "pass" and self.dmarc.result in ("pass", "fail"):
            return domain in self.dmarc.dkim_aligned_domains
        if domain == author or self.dmarc.dkim_strict or self.dmarc.record is None:
            return bool(domain) and domain == author
        return f".{domain}".endswith(f".{self.dmarc.domain}")

    @property
    def dkim_result(self) -> str:
        """One word for all signatures: the most telling of them, "none" without any."""
        results = {signature.result for signature in self.dkim}
        return next((word for word in _TELLING if word in results), "none")

    def as_api(self) -> dict[str, Any]:
        """The object ``authentication_results`` of an email in the API."""
        return {
            "spf": {
                "result": self.spf.result if self.spf else "none",
                "domain": _clean(self.spf.domain) if self.spf else "",
                "comment": _clean(self.spf_comment),
            },
            "dkim": {
                "result": self.dkim_result,
                "signatures": [
                    {
                        "result": signature.result,
                        "signing_domain": _clean(signature.signing_domain),
                        "selector": _clean(signature.selector),
                        "algorithm": _clean(signature.algorithm),
                        "aligned": self.aligned(signature),
                    }
                    for signature in self.dkim
                ],
            },
            "dmarc": _dmarc_as_api(self.dmarc),
        }

    @property
    def spf_comment(self) -> str:
        """What SPF found, as a sentence in the manner of a Received-SPF comment (RFC 7208 section 9.1)."""
        spf = self.spf
        if spf is None:
            return f"{self.hostname}: SPF was not checked"
        sender = self.mail_from if spf.identity == "mailfrom" else spf.domain
        match spf.result:
            case "pass":
                said = f"domain of {sender} designates {self.ip} as permitted sender"
            case "fail":
                said = f"domain of {sender} does not designate {self.ip} as permitted sender"
            case "softfail":
                said = f"domain of transitioning {sender} does not designate {self.ip} as permitted sender"
            case "neutral":
                said = f"{self.ip} is neither permitted nor denied by domain of {sender}"
            case "none":
                said = f"domain of {sender} does not provide an SPF record"
            case "temperror":
                said = f"error in processing during lookup of {sender}: {spf.problem}"
            case "permerror":
                said = f"permanent error in processing domain of {sender}: {spf.problem}"
        return f"{self.hostname}: {said}"


def _clean(text: str) -> str:
    """A text that strangers had a part in, as it can be stored and shown."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[:MAX_TEXT])


def _dmarc_as_api(dmarc: DmarcResult) -> dict[str, Any]:
    published = dmarc.published
    domain = _clean(dmarc.domain)
    if dmarc.policy is not None and published is not None:
        words = (("p", published.p), ("sp", published.sp), ("np", published.np))
        comment = " ".join(f"{tag}={policy.upper()}" for tag, policy in words if policy is not None)
    else:
        comment = dmarc.problem
    return {
        "result": dmarc.result,
        "domain": domain,
        "policy": dmarc.policy,
        "comment": _clean(comment),
        "header_from": _clean(dmarc.header_from),
        # The organisation in whose name it aligned, or false; the strict flag says how it had to align.
        "alignment": {
            "spf": {"result": domain if dmarc.spf_aligned else False, "strict": dmarc.spf_strict},
            "dkim": {
                "result": domain if dmarc.dkim_aligned else False,
                "strict": dmarc.dkim_strict,
                # A signature that covers only part of the body (l=) is never a pass here.
                "underSized": False,
            },
        },
    }


async def authenticate(
    resolver: Resolver,
    message: RawMessage,
    *,
    ip: str | Address | None,
    mail_from: str,
    helo: str,
    hostname: str,
    now: float,
    spf: SpfResult | None = None,
    iprev: IprevResult | None = None,
    questions: int = MAX_QUESTIONS,
    seconds: float = MAX_SECONDS,
) -> Verdict:
    """Judge one message. Never raises for what it holds or what the DNS does.

    ``ip`` is the client's address (None when unknown: SPF is then left out), ``mail_from`` the envelope sender without
    angle brackets ("" for the null sender), ``helo`` what the client called itself, ``hostname`` our own name, ``now``
    in seconds since 1970. ``spf`` and ``iprev`` take what the session has found out already; ``iprev`` is never looked
    up here, because it belongs to the connection, not to the message. ``questions`` and ``seconds`` are what is left of
    the message's budget when part of it has been spent on them.
    """
    budget = BudgetedResolver(resolver, queries=questions, seconds=seconds)
    for_spf, for_dkim = (
        BudgetedResolver(budget, queries=questions - kept[0], seconds=seconds - kept[1])
        for kept in (AFTER_SPF, AFTER_DKIM)
    )
    if spf is None and ip is not None:
        spf = await check_spf(for_spf, ip=ip, mail_from=mail_from, helo=helo, receiver=hostname, now=now)
    dkim = await verify_dkim(message, for_dkim, now=now)
    dmarc = await _evaluate_dmarc(budget, message.by_name.get(b"from", ()), spf, dkim)
    arc = await verify_arc(message, budget, now=now)
    return Verdict(spf, dkim, dmarc, arc, iprev, mail_from, "" if ip is None else str(ip), hostname)


async def _evaluate_dmarc(
    resolver: Resolver, from_fields: Sequence[HeaderField], spf: SpfResult | None, dkim: tuple[DkimResult, ...]
) -> DmarcResult:
    values = [field.value for field in from_fields]
    cheap = sum(map(len, values)) <= CHEAP_FROM_OCTETS
    authors = author_domains(values) if cheap else await asyncio.to_thread(author_domains, values)
    if len(from_fields) > 1:
        # RFC 9989 section 4.4: with a repeated From nobody knows which one the reader will see.
        problem = f"the message has {len(from_fields)} From fields"
        return DmarcResult("permerror", header_from=",".join(authors[:5]), problem=problem)
    return await evaluate_dmarc(
        resolver,
        author_domains=authors,
        # RFC 9989 section 3.2.4: for a null sender SPF checked HELO, and that domain is the identifier.
        spf_pass_domain=spf.domain if spf is not None and spf.result == "pass" else None,
        dkim_pass_domains=[signature.signing_domain for signature in dkim if signature.result == "pass"],
        spf_unknown_domain=spf.domain if spf is not None and spf.result == "temperror" else None,
        dkim_unknown_domains=[signature.signing_domain for signature in dkim if signature.result == "temperror"],
    )
