"""SPF under arbitrary input. The invariants:

- ``check_spf`` gives one of seven words for any record, sender and client, and asks no more than it says;
- a record that parses holds every term its text shows;
- what comes of a domain-spec fits a question.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.spf.check import MAX_PROBLEM_CHARS, check_spf
from clawmail.protocol.spf.evaluate import MAX_LOOKUPS, MAX_VOID_LOOKUPS
from clawmail.protocol.spf.macro import MAX_EXPLANATION_CHARS, SyntaxProblem, compile_domain_spec, expand_domain
from clawmail.protocol.spf.record import BrokenRecord, Record, parse_record
from tests.support.zones import SERVFAIL, ScriptedResolver

RESULTS = {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}
QUESTIONS = 123

pieces = st.sampled_from(
    [
        *("all", "include:", "a", "mx", "ptr", "ip4:", "ip6:", "exists:", "redirect=", "exp=", "moo="),
        *(
            "example.org",
            "%{d}",
            "%{p}",
            "%{l1r-}",
            "%{ir}",
            "%{S}",
            "%%",
            "%_",
            "%",
            "{",
            "}",
            "/24",
            "//64",
            "/",
            ":",
        ),
        *("192.0.2.10", "2001:db8::", " ", " ", " ", "-", "~", "?", "+", ".", "é", "\0", "\n", "dead.example.org"),
    ]
)
records = st.lists(pieces, max_size=24).map(lambda parts: "v=spf1 " + "".join(parts))
texts = st.one_of(records.map(str.encode), st.binary(max_size=60).map(lambda octets: b"v=spf1 " + octets), st.binary())
anything = st.text(st.characters(), max_size=40)  # lone surrogates too
senders = st.one_of(st.just("a@example.org"), anything.map(lambda text: text + "@example.org"), anything)


@settings(max_examples=400, deadline=None)
@given(
    text=texts,
    other=texts,
    addresses=st.sampled_from([SERVFAIL, ["192.0.2.10"], []]),
    mail_from=senders,
    helo=anything,
    ip=st.one_of(st.sampled_from(["192.0.2.10", "2001:db8::10", "::ffff:192.0.2.10"]), anything),
)
async def test_any_zone_and_any_sender_give_a_result(
    text: bytes, other: bytes, addresses: Any, mail_from: str, helo: str, ip: str
) -> None:
    zone = {
        "example.org": {"TXT": [text], "A": addresses, "MX": ["1 example.org"]},
        "dead.example.org": {"TXT": [other], "A": SERVFAIL},
        "10.2.0.192.in-addr.arpa": {"PTR": ["mail.example.org", "example.org"]},
    }
    resolver = ScriptedResolver(zone)
    result = await check_spf(resolver, ip=ip, mail_from=mail_from, helo=helo)
    assert result.result in RESULTS
    assert bool(result.problem) == (result.result in ("none", "temperror", "permerror"))
    assert len(result.problem) <= MAX_PROBLEM_CHARS and result.problem.isascii() and result.problem.isprintable()
    assert len(result.explanation) <= MAX_EXPLANATION_CHARS
    assert result.explanation == "" or (result.explanation.isascii() and result.explanation.isprintable())
    assert len(resolver.asked) <= QUESTIONS
    assert result.lookups <= MAX_LOOKUPS + 1 and result.void_lookups <= MAX_VOID_LOOKUPS + 1


@settings(max_examples=400, deadline=None)
@given(text=texts)
async def test_a_record_is_broken_or_all_its_terms_are_there(text: bytes) -> None:
    record = await parse_record(b"v=spf1 " + text.removeprefix(b"v=spf1 "))
    if isinstance(record, BrokenRecord):
        assert record.problem
        return
    assert isinstance(record, Record)
    terms = [term for term in text.removeprefix(b"v=spf1 ").decode("ascii").split(" ") if term]
    written = [directive.text for directive in record.directives]
    modifiers = [term for term in terms if term not in written]
    assert [term for term in terms if term not in modifiers] == written
    assert all("=" in modifier for modifier in modifiers)
    for directive in record.directives:
        assert directive.network & ~(directive.mask4 if directive.network < 1 << 32 else directive.mask6) == 0


@settings(max_examples=300, deadline=None)
@given(
    spec=st.lists(pieces, min_size=1, max_size=10).map(lambda parts: "".join(parts).replace(" ", "")),
    value=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=300),
)
def test_an_expanded_name_always_fits_a_question(spec: str, value: str) -> None:
    try:
        compiled = compile_domain_spec(spec)
    except SyntaxProblem:
        return
    name = expand_domain(compiled, dict.fromkeys("slodiphv", value))
    assert len(name) <= 253
