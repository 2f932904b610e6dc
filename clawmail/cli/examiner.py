"""Questions of people and scripts about SPF, DKIM, DMARC and ARC, answered by the code that judges incoming mail.

An ``Examiner`` holds one caching resolver for each name server it was asked to use, and turns a question (a dict, as a
line of ``--jsonl`` holds it) into the protocol's result; the ``…_json`` functions turn a result into the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clawmail.cli.lines import Unanswerable, text_of
from clawmail.core.authenticate import MAX_QUESTIONS, MAX_SECONDS, Verdict, authenticate
from clawmail.net.resolver import DnsResolver
from clawmail.protocol.address import author_domains, normalise_domain
from clawmail.protocol.dmarc import DmarcResult, evaluate_dmarc
from clawmail.protocol.dns import BudgetedResolver
from clawmail.protocol.headers import split_message, to_crlf
from clawmail.protocol.iprev import check_iprev
from clawmail.protocol.spf.check import SpfResult, check_spf

#: resolvers kept, one for each set of name servers; the least recently used goes first.
MAX_RESOLVERS = 64
#: seconds for one question, whatever the number of name servers.
DNS_TIMEOUT_SECONDS = 5.0
#: octets of a message file.
MAX_FILE_BYTES = 256 * 1024 * 1024

Question = dict[str, Any]


class Examiner:
    """Answers questions; use as an async context manager."""

    def __init__(self, nameservers: Sequence[str], hostname: str) -> None:
        self._default = tuple(nameservers)
        self._hostname = hostname
        self._resolvers: OrderedDict[tuple[str, ...], DnsResolver] = OrderedDict()

    async def __aenter__(self) -> Examiner:
        return self

    async def __aexit__(self, *_: object) -> None:
        for resolver in self._resolvers.values():
            await resolver.close()

    async def _budget(self, question: Question) -> BudgetedResolver:
        """What may be asked for one question, at the name server it names or at the default ones."""
        own = text_of(question, "nameserver", "")
        servers = (own,) if own else self._default
        resolver = self._resolvers.get(servers)
        if resolver is None:
            try:
                resolver = DnsResolver(servers, timeout_seconds=DNS_TIMEOUT_SECONDS)
            except (ValueError, OSError) as problem:
                raise Unanswerable(f"name server {', '.join(servers)}: {problem}") from problem
            self._resolvers[servers] = resolver
        self._resolvers.move_to_end(servers)
        if len(self._resolvers) > MAX_RESOLVERS:
            # More are kept than questions are worked on at once, so the oldest is idle.
            await self._resolvers.popitem(last=False)[1].close()
        return BudgetedResolver(resolver, queries=MAX_QUESTIONS, seconds=MAX_SECONDS)

    async def spf(self, question: Question) -> SpfResult:
        """``ip``, ``mail_from`` and ``helo``."""
        ip, sender, helo = text_of(question, "ip"), text_of(question, "mail_from", ""), text_of(question, "helo", "")
        budget = await self._budget(question)
        return await check_spf(
            budget, ip=ip.strip(), mail_from=sender, helo=helo, receiver=self._hostname, now=time.time()
        )

    async def message(self, question: Question) -> Verdict:
        """``file`` and, for SPF and iprev, ``ip``, ``mail_from`` and ``helo``."""
        path, ip = text_of(question, "file"), text_of(question, "ip", "").strip()
        budget = await self._budget(question)
        message = split_message(to_crlf(await asyncio.to_thread(_read, path)))
        return await authenticate(
            budget,
            message,
            ip=ip or None,
            mail_from=text_of(question, "mail_from", "").strip().strip("<>"),
            helo=text_of(question, "helo", ""),
            hostname=self._hostname,
            now=time.time(),
            iprev=await check_iprev(budget, ip) if ip else None,
        )

    async def dmarc(self, question: Question) -> DmarcResult:
        """``from`` (an address or a domain), ``spf_pass`` (a domain) and ``dkim_pass`` (a list of domains)."""
        author, spf, dkim = text_of(question, "from"), text_of(question, "spf_pass", ""), question.get("dkim_pass")
        if isinstance(dkim, str):
            dkim = [dkim]
        if not isinstance(dkim or [], list) or not all(isinstance(domain, str) for domain in dkim or []):
            raise Unanswerable('"dkim_pass" must be a list of strings')
        field = author if "@" in author or not author.strip() else f"postmaster@{author.strip()}"
        return await evaluate_dmarc(
            await self._budget(question),
            author_domains=author_domains([field.encode("utf-8", "surrogateescape")]),
            spf_pass_domain=_domain(spf) if spf else None,
            dkim_pass_domains=[_domain(domain) for domain in dkim or []],
        )


def _domain(text: str) -> str:
    """A domain as people type it: U-labels too, and the part behind the @ of an address."""
    domain = text.strip().rpartition("@")[2]
    return normalise_domain(domain) or domain.lower()


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as problem:
        raise Unanswerable(f"{path}: {getattr(problem, 'strerror', None) or problem}") from problem
    if len(raw) > MAX_FILE_BYTES:
        raise Unanswerable(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    return raw


def spf_json(spf: SpfResult) -> dict[str, Any]:
    """SPF's answer."""
    return {
        "result": spf.result,
        "explanation": spf.explanation,
        "problem": spf.problem,
        "domain": spf.domain,
        "identity": spf.identity,
        "mechanism": spf.mechanism,
        "record": spf.record,
        "record_domain": spf.record_domain,
    }


def dmarc_json(dmarc: DmarcResult) -> dict[str, Any]:
    """DMARC's answer; an identifier that did not align is null."""
    return {
        "result": dmarc.result,
        "policy": dmarc.policy,
        "domain": dmarc.domain,
        "record": dmarc.record,
        "record_domain": dmarc.record_domain,
        "test_mode": dmarc.test_mode,
        "header_from": dmarc.header_from,
        "alignment": {
            "spf": {"result": dmarc.spf_aligned, "strict": dmarc.spf_strict},
            "dkim": {"result": dmarc.dkim_aligned, "strict": dmarc.dkim_strict},
        },
        "rua": list(dmarc.rua),
        "problem": dmarc.problem,
    }


def verdict_json(verdict: Verdict, hostname: str) -> dict[str, Any]:
    """The answer about a whole message. Without a client address SPF is "none" and the reverse name null."""
    unknown = "no client address was given"
    return {
        "spf": spf_json(verdict.spf) if verdict.spf else {"result": "none", "explanation": "", "problem": unknown},
        "dkim": [
            {
                "result": signature.result,
                "signing_domain": signature.signing_domain,
                "selector": signature.selector,
                "algorithm": signature.algorithm,
                "aligned": verdict.aligned(signature),
                "reason": signature.reason,
                "key_bits": signature.key_bits,
                "testing": signature.testing,
            }
            for signature in verdict.dkim
        ],
        "dmarc": dmarc_json(verdict.dmarc),
        "arc": {
            "result": verdict.arc.result,
            "instance": verdict.arc.instance,
            "oldest_pass": verdict.arc.oldest_pass if verdict.arc.oldest_pass >= 0 else None,
            "sealers": list(verdict.arc.sealers),
            "reason": verdict.arc.reason,
        },
        "iprev": (
            {"result": verdict.iprev.result, "name": verdict.iprev.name, "problem": verdict.iprev.problem}
            if verdict.iprev
            else {"result": None, "name": "", "problem": unknown}
        ),
        "authentication_results": verdict.authentication_results(hostname),
    }
