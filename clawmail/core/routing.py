"""Forwarding rules: which mail is also sent on, and to whom.

A rule matches one field of a message with a pattern in RE2's syntax, which takes time linear in the text; how much for
each character is up to the pattern: at worst a step, of some 8 ns, for every instruction it compiles to. Patterns are a
tenant's, texts a stranger's. So that neither can make matching slow, the instructions of a domain's rules are bounded,
and so are the steps of one message. This is RE2's one address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from clawmail.base.errors import Invalid
from clawmail.base.log import logger
from clawmail.model.tenancy import ForwardingRule

#: longest pattern, in characters.
MAX_PATTERN_LENGTH = 1024
#: memory that RE2 may spend on one pattern, in bytes.
MAX_PATTERN_MEMORY = 1 << 20
#: how much of a field is matched, in characters.
MAX_FIELD_LENGTH = 64 * 1024
#: instructions that the patterns of one domain may compile to, all together. Most patterns have some dozens.
MAX_INSTRUCTIONS = 25_000
#: steps that the rules of one domain may take for one message, a fifth of a second: with very costly rules less of a
#: field is matched, but never less than its first thousand characters.
MAX_STEPS = 1_000 * MAX_INSTRUCTIONS
#: rules of one domain that are looked at.
MAX_RULES = 200
#: domains whose compiled patterns ``plan_afresh`` keeps.
REMEMBERED = 4
#: copies that one message may become, by how often our rules have sent it on already. Rules that feed each other would
#: otherwise turn one letter into 20 * 20 * 20 * 20 of them before it is seen that it goes round.
MAX_FORWARDS = (20, 5, 1)

log = logger("routing")


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule and its pattern, ready to match."""

    rule: ForwardingRule
    pattern: Any

    @property
    def instructions(self) -> int:
        """How large a machine the pattern is."""
        return int(self.pattern.programsize)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What of a message rules can look at."""

    #: each author as "Name <address>" and as the bare address.
    from_: tuple[str, ...]
    #: each recipient likewise, of the envelope and of To.
    to: tuple[str, ...]
    subject: str


def compile_rule(pattern: str) -> Any:
    """The pattern, compiled. Raises Invalid with RE2's own words for what it does not support."""
    if not pattern:
        raise Invalid("regex_pattern is required", field="regex_pattern")
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise Invalid(f"regex_pattern must be at most {MAX_PATTERN_LENGTH} characters", field="regex_pattern")
    options = re2.Options()
    options.max_mem = MAX_PATTERN_MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as problem:
        said = problem.args[0] if problem.args else problem
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        raise Invalid(f"regex_pattern is not a valid RE2 pattern: {words}", field="regex_pattern") from None


def compile_rules(rules: Iterable[ForwardingRule]) -> tuple[CompiledRule, ...]:
    """Stored rules, ready to match; one whose pattern is not taken any longer is logged and left out."""
    compiled: list[CompiledRule] = []
    instructions = 0
    for rule in rules:
        try:
            one = CompiledRule(rule, compile_rule(rule.regex_pattern))
            instructions = _together(instructions, one)
        except Invalid as problem:
            log.warning("rule ignored", rule=str(rule.id), problem=problem.message)
        else:
            compiled.append(one)
    return tuple(compiled[:MAX_RULES])


def check_together(rules: Iterable[ForwardingRule], new: ForwardingRule) -> None:
    """Whether a domain that has ``rules`` may have ``new`` as well. Raises Invalid."""
    _together(sum(one.instructions for one in compile_rules(rules)), CompiledRule(new, compile_rule(new.regex_pattern)))


def _together(instructions: int, one: CompiledRule) -> int:
    """The instructions of a domain's patterns with one more. Raises Invalid where they are too many."""
    if instructions + one.instructions > MAX_INSTRUCTIONS:
        raise Invalid("regex_pattern: the domain's patterns together are too costly to match", field="regex_pattern")
    return instructions + one.instructions


def steps(rules: Sequence[CompiledRule], candidate: Candidate) -> int:
    """What ``plan`` may cost at most, in steps of some 8 ns."""
    length = _matched_length(rules)
    texts = (_texts(one, candidate) for one in rules)
    return sum(one.instructions * min(length, sum(map(len, some))) for one, some in zip(rules, texts, strict=True))


def _matched_length(rules: Sequence[CompiledRule]) -> int:
    """Characters of a field that are matched."""
    return min(MAX_FIELD_LENGTH, MAX_STEPS // max(1, sum(one.instructions for one in rules)))


def plan(
    rules: Sequence[CompiledRule], candidate: Candidate, *, not_to: Iterable[str], passed: int = 0
) -> list[ForwardingRule]:
    """The rules that send this message on, one for each destination.

    ``not_to`` are addresses that have the message already (its recipients, its sender): sending it there would be a
    loop or a repetition. ``passed``: how often this server has sent the message on already.
    """
    taken = {address.lower() for address in not_to}
    at_most = MAX_FORWARDS[min(passed, len(MAX_FORWARDS) - 1)]
    length = _matched_length(rules)
    chosen: list[ForwardingRule] = []
    for compiled in rules:
        destination = compiled.rule.destination_email.lower()
        if destination not in taken and len(chosen) < at_most and _matches(compiled, candidate, length):
            taken.add(destination)
            chosen.append(compiled.rule)
    return chosen


def plan_afresh(
    rules: tuple[ForwardingRule, ...], candidate: Candidate, *, not_to: Iterable[str], passed: int
) -> list[ForwardingRule]:
    """``plan``, for another process, which compiles the patterns itself and keeps them for the next message."""
    return plan(_compiled(rules), candidate, not_to=not_to, passed=passed)


@lru_cache(maxsize=REMEMBERED)
def _compiled(rules: tuple[ForwardingRule, ...]) -> tuple[CompiledRule, ...]:
    return compile_rules(rules)


def _texts(compiled: CompiledRule, candidate: Candidate) -> tuple[str, ...]:
    match compiled.rule.match_field:
        case "from":
            return candidate.from_
        case "to":
            return candidate.to
        case _:
            return (candidate.subject,)


def _matches(compiled: CompiledRule, candidate: Candidate, length: int) -> bool:
    """Whether the pattern is found in the first ``length`` characters of its field."""
    for text in _texts(compiled, candidate):
        if length <= 0:
            break
        if compiled.pattern.search(text[:length]) is not None:
            return True
        length -= len(text)
    return False
