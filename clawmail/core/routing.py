"""Forwarding rules: which mail is also sent on, and to whom.

A rule matches one field of a message with a pattern in RE2's syntax, which takes linear time whatever the pattern and
the text. Patterns are a tenant's, texts a stranger's: neither can make matching slow. This is RE2's one address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
#: rules of one domain that are looked at.
MAX_RULES = 200
#: copies that one message may become, by how often our rules have sent it on already. Rules that feed each other would
#: otherwise turn one letter into 20 * 20 * 20 * 20 of them before it is seen that it goes round.
MAX_FORWARDS = (20, 5, 1)

log = logger("routing")


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule and its pattern, ready to match."""

    rule: ForwardingRule
    pattern: Any


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
    """Stored rules, ready to match; one whose pattern RE2 no longer takes is logged and left out."""
    compiled = []
    for rule in rules:
        try:
            compiled.append(CompiledRule(rule, compile_rule(rule.regex_pattern)))
        except Invalid as problem:
            log.warning("rule ignored", rule=str(rule.id), problem=problem.message)
    return tuple(compiled[:MAX_RULES])


def plan(
    rules: Sequence[CompiledRule], candidate: Candidate, *, not_to: Iterable[str], passed: int = 0
) -> list[ForwardingRule]:
    """The rules that send this message on, one for each destination.

    ``not_to`` are addresses that have the message already (its recipients, its sender): sending it there would be a
    loop or a repetition. ``passed``: how often this server has sent the message on already.
    """
    taken = {address.lower() for address in not_to}
    at_most = MAX_FORWARDS[min(passed, len(MAX_FORWARDS) - 1)]
    chosen: list[ForwardingRule] = []
    for compiled in rules:
        destination = compiled.rule.destination_email.lower()
        if destination not in taken and len(chosen) < at_most and _matches(compiled, candidate):
            taken.add(destination)
            chosen.append(compiled.rule)
    return chosen


def _matches(compiled: CompiledRule, candidate: Candidate) -> bool:
    match compiled.rule.match_field:
        case "from":
            texts = candidate.from_
        case "to":
            texts = candidate.to
        case _:
            texts = (candidate.subject,)
    return any(compiled.pattern.search(text[:MAX_FIELD_LENGTH]) is not None for text in texts)
