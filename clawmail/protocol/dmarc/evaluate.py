"""Does the domain in From stand behind this message? The DMARC evaluation (RFC 9989 section 5.3).

A reader sees the author's address in From; SPF and DKIM prove other names. DMARC joins them: the message passes when
one of the names that SPF or DKIM proved is *aligned* with the author's domain, identical (strict) or of the same
organisation (relaxed). When none is, the author's domain owner says what should happen: nothing, quarantine or reject.

DNS failures follow one rule: what is not needed to know does not spoil what is known. An identical name passes whatever
fails further up the tree; but a message whose only hope is a walk that failed neither passes nor fails (section 5.3.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from clawmail.protocol.dmarc.discovery import Lookup, RecordBook, Walk
from clawmail.protocol.dmarc.record import Policies, Policy, PolicyRecord
from clawmail.protocol.dns import Resolver, Status

#: proven names for which a tree walk of their own is made, per message; SPF's comes first. Others count as unaligned.
MAX_IDENTIFIER_WALKS = 10


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """The outcome for one message, with the evidence it rests on."""

    #: in the words of RFC 9989 section 9.2.
    result: Literal["none", "pass", "fail", "temperror", "permerror"]
    #: what applies to a message that fails, after ``sp``, ``np`` and ``t``; None when DMARC does not apply or unknown.
    policy: Policy | None = None
    #: the Organizational Domain of the author; the author domain itself when there is no record. "" without an author.
    domain: str = ""
    #: the record that applies, as published, and the name it was found for (without ``_dmarc.``).
    record: str | None = None
    record_domain: str | None = None
    #: the policies of that record as published, for display.
    published: Policies | None = None
    #: ``t=y``: the owner is testing, ``policy`` is one level lower than published.
    test_mode: bool = False
    #: the author domain, or several joined by a comma.
    header_from: str = ""
    #: the name proven by SPF that aligned.
    spf_aligned: str | None = None
    spf_strict: bool = False
    #: the first name proven by DKIM that aligned, and all of them.
    dkim_aligned: str | None = None
    dkim_aligned_domains: frozenset[str] = frozenset()
    dkim_strict: bool = False
    #: where the owner wants aggregate reports.
    rua: tuple[str, ...] = ()
    #: why it is an error or none, in words for people; "" otherwise.
    problem: str = ""
    #: every question asked, in order; ``str()`` of one is a line for people.
    steps: tuple[Lookup, ...] = ()
    #: what the owner of the record should mend.
    notes: tuple[str, ...] = ()


async def evaluate_dmarc(
    resolver: Resolver,
    *,
    author_domains: Sequence[str],
    spf_pass_domain: str | None = None,
    dkim_pass_domains: Sequence[str] = (),
    spf_unknown_domain: str | None = None,
    dkim_unknown_domains: Sequence[str] = (),
) -> DmarcResult:
    """Evaluate DMARC for one message (RFC 9989 section 5.3).

    ``author_domains`` are the domains of every author in From as A-labels. ``spf_pass_domain`` is the domain SPF
    passed for MAIL FROM (or for HELO, when the sender is null: section 3.2.4). ``dkim_pass_domains`` are the ``d=`` of
    signatures that passed. The ``unknown`` ones are those whose check ended in a temperror. Questions to ``resolver``
    are asked one after another and only when needed.
    """
    authors = _normalised(author_domains)
    if len(authors) != 1:
        # Section 5.3.1: "zero or more than one domain" makes validation impossible.
        problem = "From names authors of several domains" if authors else "From names no author with a domain"
        return DmarcResult("permerror", header_from=",".join(authors[:5]), problem=problem)
    proven = _Names(_normalised([spf_pass_domain or ""]), _normalised(dkim_pass_domains))
    unknown = _Names(_normalised([spf_unknown_domain or ""]), _normalised(dkim_unknown_domains))
    book = RecordBook(resolver)
    return await _Evaluation(resolver, book, authors[0], await book.walk(authors[0])).judge(proven, unknown)


class _Names(NamedTuple):
    """Domains that SPF and DKIM spoke of."""

    spf: list[str]
    dkim: list[str]


def _normalised(domains: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, map(_normal, domains))))


def _normal(domain: str) -> str:
    return domain.strip().removesuffix(".").lower()


@dataclass(slots=True)
class _Evaluation:
    """What is known of one message after the walk from its author domain."""

    resolver: Resolver
    book: RecordBook
    author: str
    walk: Walk
    walks_made: int = 0
    #: the failure that kept an identifier from being judged.
    unjudged: str = ""

    async def judge(self, proven: _Names, unknown: _Names) -> DmarcResult:
        """The result for the names that were proven, and for those of which nobody knows."""
        found = self.walk.policy
        if found is None:
            if self.walk.problem:
                return self._without_policy("temperror", self.walk.problem)
            return self._without_policy("none", "no DMARC record was found", domain=self.author)
        record_domain, record = found
        if record.policies is None:
            # Section 4.10.1: no usable policy and nobody to report to, "the Mail Receiver applies no DMARC processing".
            problem = f"the record at _dmarc.{record_domain} has no valid policy and asks for no reports"
            return self._without_policy("none", problem, found)
        spf_aligned, dkim_aligned = await self._all_aligned(proven, record)
        if not (spf_aligned or dkim_aligned):
            # Section 5.3.6: with a question open that could have made it a pass, it is neither pass nor fail.
            open_names = [name for names in await self._all_aligned(unknown, record) for name in names]
            problem = f"whether {open_names[0]} sent it could not be checked" if open_names else self.unjudged
            if not problem and self.walk.problem and record_domain != self.author:
                # Whose policy applies depends on what could not be asked.
                problem = self.walk.problem
            if problem:
                return self._without_policy("temperror", problem, found)
        policy, problem = await self._policy(record_domain, record, record.policies)
        if problem and not (spf_aligned or dkim_aligned):
            return self._without_policy("temperror", problem, found)
        return DmarcResult(
            result="pass" if spf_aligned or dkim_aligned else "fail",
            policy=policy,
            domain=self.walk.organizational_domain,
            record=record.text,
            record_domain=record_domain,
            published=record.policies,
            test_mode=record.testing,
            header_from=self.author,
            spf_aligned=spf_aligned[0] if spf_aligned else None,
            spf_strict=record.aspf_strict,
            dkim_aligned=dkim_aligned[0] if dkim_aligned else None,
            dkim_aligned_domains=frozenset(dkim_aligned),
            dkim_strict=record.adkim_strict,
            rua=record.rua,
            steps=self.book.lookups,
            notes=record.notes,
        )

    def _without_policy(
        self,
        result: Literal["none", "temperror"],
        problem: str,
        found: tuple[str, PolicyRecord] | None = None,
        domain: str = "",
    ) -> DmarcResult:
        """A result to which no policy applies, with the record as far as it is known."""
        record_domain, record = found if found else (None, None)
        return DmarcResult(
            result,
            domain=domain or self.walk.organizational_domain,
            record=record.text if record else None,
            record_domain=record_domain,
            published=record.policies if record else None,
            test_mode=record.testing if record else False,
            header_from=self.author,
            spf_strict=record.aspf_strict if record else False,
            dkim_strict=record.adkim_strict if record else False,
            problem=problem,
            steps=self.book.lookups,
            notes=record.notes if record else (),
        )

    async def _all_aligned(self, names: _Names, record: PolicyRecord) -> _Names:
        """Those of ``names`` that are aligned with the author."""
        return _Names(
            [name for name in names.spf if await self._aligned(name, record.aspf_strict)],
            [name for name in names.dkim if await self._aligned(name, record.adkim_strict)],
        )

    async def _aligned(self, name: str, strict: bool) -> bool:
        """Whether a proven name is aligned with the author (section 4.10.2)."""
        if name == self.author:
            return True
        if strict:
            return False
        if self.walk.problem:
            self.unjudged = self.walk.problem
            return False
        top = self.walk.organizational_domain
        # A name's Organizational Domain is itself or a parent of it, so only names at or below ours can share ours.
        if name != top and not name.endswith("." + top):
            return False
        if self.walks_made >= MAX_IDENTIFIER_WALKS:
            return False
        self.walks_made += 1
        walk = await self.book.walk(name)
        if walk.problem:
            self.unjudged = walk.problem
            return False
        return walk.organizational_domain == top

    async def _policy(self, record_domain: str, record: PolicyRecord, policies: Policies) -> tuple[Policy, str]:
        """The policy that applies to the author, and why that is uncertain ("" when it is not) (section 4.10.1)."""
        if record_domain == self.author:
            return record.lowered(policies.p), ""
        policy = policies.sp or policies.p
        if policies.np is None or policies.np == policy:
            return record.lowered(policy), ""
        # Section 3.2.13: only NXDOMAIN means that a domain does not exist, whatever type was asked for.
        answer = await self.resolver.a(self.author)
        if answer.failed:
            return record.lowered(policy), f"whether {self.author} exists: {answer.problem or 'DNS failure'}"
        return record.lowered(policies.np if answer.status is Status.NO_NAME else policy), ""
