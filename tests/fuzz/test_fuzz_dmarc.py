"""Fuzzing DMARC with what a stranger controls: the TXT records, the names in From, and the names that were proven.

Invariants: no exception; a result in the words of RFC 8601; a policy exactly when DMARC applied; at most eight names
asked for the author and no name twice; and every text in the result is printable ASCII or U+FFFD, so that it can be
shown, logged and stored.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from clawmail.protocol.dmarc import evaluate_dmarc
from clawmail.protocol.dmarc.evaluate import MAX_IDENTIFIER_WALKS
from clawmail.protocol.dmarc.record import is_policy_record, parse_record
from tests.support.zones import ScriptedResolver

tag = st.sampled_from(["v", "p", "sp", "np", "psd", "t", "adkim", "aspf", "rua", "ruf", "pct", "é", "", " ", "x" * 300])
value = st.one_of(st.sampled_from(["none", "reject", "y", "n", "s", "mailto:a@b.c!9k", ""]), st.text(max_size=20))
pair = st.builds(
    lambda name, equals, text: f"{name}{equals}{text}", tag, st.sampled_from(["=", " = ", "", "=="]), value
)
record = st.one_of(
    st.builds(lambda pairs: ("v=DMARC1;" + ";".join(pairs)).encode(), st.lists(pair, max_size=8)),
    st.binary(max_size=80).map(lambda tail: b"v=DMARC1;" + tail),
    st.binary(max_size=80),
)
name = st.one_of(
    st.lists(st.sampled_from(["a", "b", "com", "", "x" * 70, "[1.2.3.4]", "é", "*", "\x00", " "]), max_size=12).map(
        ".".join
    ),
    st.text(max_size=40),
)


@given(record)
@settings(max_examples=300)
def test_any_record_is_read(text: bytes) -> None:
    if is_policy_record(text):
        parsed = parse_record(text)
        assert parsed.psd in ("y", "n", "u")
        assert all(character.isprintable() for character in parsed.text)
        assert all(note.isascii() and note.isprintable() for note in parsed.notes)
        assert all(":" in uri and "!" not in uri for uri in parsed.rua + parsed.ruf)


@given(
    st.dictionaries(name, st.lists(record, min_size=1, max_size=2), max_size=5),
    st.lists(name, max_size=3),
    st.one_of(st.none(), name),
    st.lists(name, max_size=4),
)
@example({"": [b"v=DMARC1; p=reject"]}, [".."], None, [])
@settings(max_examples=200)
async def test_any_zone_and_names_give_a_defined_result(
    zone: dict[str, list[bytes]], authors: list[str], spf: str | None, dkim: list[str]
) -> None:
    resolver = ScriptedResolver({f"_dmarc.{owner}": {"TXT": values} for owner, values in zone.items()})
    result = await evaluate_dmarc(resolver, author_domains=authors, spf_pass_domain=spf, dkim_pass_domains=dkim)
    assert result.result in ("none", "pass", "fail", "temperror", "permerror")
    assert (result.policy is not None) == (result.result in ("pass", "fail"))
    assert (result.result == "pass") == (result.spf_aligned is not None or result.dkim_aligned is not None)
    asked = [question for kind, question in resolver.asked if kind == "TXT"]
    assert len(asked) <= 8 * (1 + MAX_IDENTIFIER_WALKS)
    assert len(set(asked)) == len(asked)
