"""Forwarding rules matched: which field, in RE2's syntax, and that no pattern and no text make it slow."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.base.errors import Invalid
from clawmail.core.routing import (
    MAX_FIELD_LENGTH,
    MAX_FORWARDS,
    MAX_INSTRUCTIONS,
    MAX_RULES,
    MAX_STEPS,
    Candidate,
    check_together,
    compile_rule,
    compile_rules,
    plan,
    steps,
)
from clawmail.model.tenancy import ForwardingRule, MatchField

LETTER = Candidate(
    from_=("ann@author.test", "Ann Author <ann@author.test>"),
    to=("agent@claw.example", "Agent Smith <agent@claw.example>", "hidden@claw.example"),
    subject="An urgent matter",
)


def rule(field: MatchField, pattern: str, destination: str = "boss@there.test") -> ForwardingRule:
    """A stored rule."""
    return ForwardingRule(
        uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), field, pattern, destination, True, datetime(2026, 1, 1, tzinfo=UTC)
    )


def chosen(*rules: ForwardingRule, letter: Candidate = LETTER, not_to: tuple[str, ...] = ()) -> list[str]:
    """Where the rules send a letter."""
    return [one.destination_email for one in plan(compile_rules(rules), letter, not_to=not_to)]


@pytest.mark.parametrize(
    ("field", "pattern", "matches"),
    [
        ("subject", "urgent|critical", True),
        ("subject", "^An urgent", True),
        ("subject", "urgent$", False),
        ("subject", "URGENT", False),
        ("subject", "(?i)URGENT", True),
        ("subject", "^(?i:an) [a-z]+ matter$", True),
        ("subject", "author", False),
        ("from", "@author[.]test$", True),
        ("from", "^Ann Author", True),
        ("from", "urgent", False),
        ("to", "^hidden@", True),
        ("to", "Smith", True),
        ("to", "ann@", False),
    ],
)
def test_one_field_is_matched(field: MatchField, pattern: str, matches: bool) -> None:
    assert chosen(rule(field, pattern)) == (["boss@there.test"] if matches else [])


def test_a_destination_gets_one_copy_and_nobody_what_he_has() -> None:
    rules = [rule("subject", "urgent", "a@x.test"), rule("from", "ann", "A@x.test"), rule("to", "agent", "b@x.test")]
    assert chosen(*rules) == ["a@x.test", "b@x.test"]
    assert chosen(*rules, not_to=("B@X.test",)) == ["a@x.test"]


def test_rules_and_copies_are_bounded() -> None:
    many = [rule("subject", "urgent", f"to{number}@x.test") for number in range(MAX_RULES + 1)]
    assert len(compile_rules(many)) == MAX_RULES
    assert len(chosen(*many)) == MAX_FORWARDS[0]


@pytest.mark.parametrize("passed", range(5))
def test_what_our_rules_have_sent_on_already_becomes_fewer_copies(passed: int) -> None:
    many = compile_rules([rule("subject", "urgent", f"{n}@far.test") for n in range(MAX_FORWARDS[0])])
    assert len(plan(many, LETTER, not_to=(), passed=passed)) == (*MAX_FORWARDS, 1, 1)[passed]


@pytest.mark.parametrize(
    "pattern", ["", "(", "a(?=b)", "a(?!b)", "(?<=a)b", r"(a)\1", "x" * 1025, "((a{1000}){1000}){1000}"]
)
def test_what_re2_does_not_take_is_refused_in_words(pattern: str) -> None:
    with pytest.raises(Invalid) as refused:
        compile_rule(pattern)
    assert refused.value.field == "regex_pattern"


def test_a_stored_rule_that_no_longer_compiles_is_left_out() -> None:
    assert chosen(rule("subject", "("), rule("subject", "urgent", "b@x.test")) == ["b@x.test"]


def test_only_so_much_of_a_field_is_looked_at() -> None:
    late = Candidate((), (), "x" * MAX_FIELD_LENGTH + "urgent")
    assert chosen(rule("subject", "urgent"), letter=late) == []


def test_a_pattern_that_ruins_other_engines_is_nothing_here() -> None:
    letter = Candidate((), (), "a" * MAX_FIELD_LENGTH)
    assert chosen(rule("subject", "^(a+)+b$"), letter=letter) == []


#: some two thousand instructions, all of which RE2 walks through at each character of a text without a c.
COSTLY = "a(a|b){0,500}c"


def test_costly_patterns_are_bounded_together() -> None:
    many = [rule("subject", COSTLY, f"to{number}@x.test") for number in range(MAX_RULES)]
    kept = compile_rules(many)
    assert 0 < sum(one.instructions for one in kept) <= MAX_INSTRUCTIONS
    fitting = [one.rule for one in kept]
    check_together(fitting[:-1], fitting[-1])
    with pytest.raises(Invalid, match="too costly"):
        check_together(fitting, rule("subject", COSTLY))
    check_together(fitting[:-1], rule("subject", "^(?i:invoice|receipt)"))


def test_what_one_message_costs_is_bounded_whatever_it_holds() -> None:
    costly = compile_rules([rule("subject", COSTLY, f"to{number}@x.test") for number in range(MAX_RULES)])
    assert steps(costly, Candidate((), (), "ab" * MAX_FIELD_LENGTH)) <= MAX_STEPS
    to = compile_rules([rule("to", COSTLY)])
    assert steps(to, Candidate((), ("ab" * 1000,) * 1000, "")) <= MAX_STEPS
    assert plan(to, Candidate((), ("b" * MAX_FIELD_LENGTH, "abc"), ""), not_to=()) == []


def test_costly_rules_see_the_beginning_of_a_field() -> None:
    costly = [rule("subject", COSTLY, f"to{number}@x.test") for number in range(MAX_RULES)]
    assert chosen(rule("subject", "c$"), *costly, letter=Candidate((), (), "b" * 900 + "c")) == ["boss@there.test"]


@given(st.text(max_size=60), st.text(max_size=200))
@settings(max_examples=150)
def test_any_pattern_is_taken_or_refused_and_any_text_is_matched(pattern: str, text: str) -> None:
    try:
        compile_rule(pattern)
    except Invalid:
        return
    assert len(chosen(rule("subject", pattern), letter=Candidate((), (), text))) <= 1
