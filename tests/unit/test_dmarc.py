"""DMARC (RFC 9989): every folder of ``tests/golden/dmarc``, and properties that hold for any zone.

A folder holds ``zone.json`` (as ``tests.support.zones`` reads it), ``query.json`` (``from``, ``spf``, ``dkim``),
``expected.json`` (fields of ``DmarcResult``, and ``asked``: the TXT questions in order) and ``readme.txt`` (what
is odd).
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.dmarc import DmarcResult, evaluate_dmarc
from clawmail.protocol.dmarc.discovery import RecordBook, names_on_the_way
from clawmail.protocol.dmarc.evaluate import MAX_IDENTIFIER_WALKS
from tests.support.zones import ScriptedResolver

GOLDEN = Path(__file__).parent.parent / "golden" / "dmarc"
FOLDERS = sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir())


async def evaluate(
    zone: dict[str, Any], author: str | list[str], spf: str | None = None, dkim: list[str] | None = None
) -> tuple[DmarcResult, list[tuple[str, str]]]:
    resolver = ScriptedResolver(zone)
    authors = [author] if isinstance(author, str) else author
    result = await evaluate_dmarc(resolver, author_domains=authors, spf_pass_domain=spf, dkim_pass_domains=dkim or [])
    return result, resolver.asked


@pytest.mark.parametrize("folder", FOLDERS)
async def test_golden(folder: str) -> None:
    zone, query, expected = (
        json.loads((GOLDEN / folder / name).read_text("utf-8")) for name in ("zone.json", "query.json", "expected.json")
    )
    result, asked = await evaluate(zone, query["from"], query.get("spf"), query.get("dkim"))
    questions = expected.pop("asked", None)
    found = {name: getattr(result, name) for name in expected}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in found.items()} == expected
    if questions is not None:
        assert [name for kind, name in asked if kind == "TXT"] == questions
    assert (GOLDEN / folder / "readme.txt").read_text("utf-8").strip()


def test_goldens_are_many() -> None:
    assert len(FOLDERS) >= 60


async def test_an_error_says_what_failed_and_where() -> None:
    result, _ = await evaluate({"_dmarc.example.com": {"TXT": "SERVFAIL"}}, "mail.example.com")
    assert result.problem.startswith("_dmarc.example.com: ")
    assert [str(step) for step in result.steps] == [
        "_dmarc.mail.example.com: no such name",
        "_dmarc.example.com: DNS failure",
    ]


async def test_steps_tell_why_a_name_gave_no_record() -> None:
    zone = {
        "_dmarc.a.example.com": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]},
        "_dmarc.example.com": {"TXT": ["v=spf1 -all"]},
        "_dmarc.com": {"TXT": ["v=DMARC1; p=none; psd=y"]},
    }
    result, _ = await evaluate(zone, "a.example.com")
    assert [str(step) for step in result.steps] == [
        "_dmarc.a.example.com: 2 DMARC records, all discarded (there must be one)",
        "_dmarc.example.com: TXT records, but none that starts with v=DMARC1",
        "_dmarc.com: v=DMARC1; p=none; psd=y",
    ]


async def test_notes_name_what_the_owner_should_mend() -> None:
    zone = {
        "_dmarc.example.com": {"TXT": ["v=DMARC1; sp=rejct; adkim=strict; p=none; p=reject; loose; rua=mailto:a@b.c"]}
    }
    result, _ = await evaluate(zone, "example.com")
    assert result.notes == (
        "the tag p= is repeated; the first one counts",
        "'loose' is not a tag=value pair; ignored",
        "sp=rejct is not a policy; it must be none, quarantine or reject",
        "adkim=strict is not a known value; adkim=r is assumed",
    )


async def test_many_identifiers_cost_a_bounded_number_of_walks_and_spf_goes_first() -> None:
    zone = {"_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]}}
    signers = [f"s{number}.example.com" for number in range(40)]
    result, asked = await evaluate(zone, "example.com", "bounces.example.com", signers)
    assert result.spf_aligned == "bounces.example.com"
    assert len(asked) == 2 + MAX_IDENTIFIER_WALKS
    assert len(result.dkim_aligned_domains) == MAX_IDENTIFIER_WALKS - 1


async def test_the_whole_of_a_64_kilobyte_record_is_read_in_bounds() -> None:
    record = "v=DMARC1; p=reject; rua=" + ",".join(["mailto:a@example.com"] * 2000) + ";x=1" * 5000
    result, _ = await evaluate({"_dmarc.example.com": {"TXT": [record]}}, "example.com")
    assert (result.policy, len(result.rua)) == ("reject", 20)


labels = st.sampled_from(["a", "b", "mail", "example", "com", "bank"])
names = st.lists(labels, min_size=1, max_size=12).map(".".join)
records = st.lists(
    st.builds(
        "v=DMARC1; p={}; sp={}{}{}".format,
        st.sampled_from(["none", "quarantine", "reject"]),
        st.sampled_from(["none", "quarantine", "reject"]),
        st.sampled_from(["", "; psd=y", "; psd=n", "; psd=u", "; t=y", "; np=reject"]),
        st.sampled_from(["", "; adkim=s", "; aspf=s"]),
    ),
    min_size=1,
    max_size=2,
)
zones = st.dictionaries(names.map("_dmarc.{}".format), records.map(lambda texts: {"TXT": texts}), max_size=6)


@given(names)
def test_a_walk_asks_at_most_eight_names_each_a_parent_of_the_last(start: str) -> None:
    way = list(names_on_the_way(start))
    assert 1 <= len(way) <= 8
    assert way[0] == start
    assert all(longer.endswith("." + shorter) for longer, shorter in pairwise(way))
    assert "." not in way[-1]


@given(zones, names)
@settings(max_examples=200)
async def test_the_organizational_domain_is_the_start_or_above_it(zone: dict[str, Any], start: str) -> None:
    walk = await RecordBook(ScriptedResolver(zone)).walk(start)
    top = walk.organizational_domain
    assert start == top or start.endswith("." + top)


@given(zones, names, names)
@settings(max_examples=200)
async def test_relaxed_alignment_is_having_the_same_organizational_domain(
    zone: dict[str, Any], author: str, signer: str
) -> None:
    result, _ = await evaluate(zone, author, None, [signer])
    if result.result in ("pass", "fail"):
        book = RecordBook(ScriptedResolver(zone))
        one, other = await book.walk(author), await book.walk(signer)
        same = one.organizational_domain == other.organizational_domain and not result.dkim_strict
        assert (result.result == "pass") == (author == signer or same)


@given(zones, names, names)
@settings(max_examples=100)
async def test_policy_does_not_depend_on_the_outcome(zone: dict[str, Any], author: str, signer: str) -> None:
    one, _ = await evaluate(zone, author, None, [signer])
    other, _ = await evaluate(zone, author, author, [])
    assert (one.policy, one.domain, one.record) == (other.policy, other.domain, other.record)
    assert (one.policy is None) == (one.result == "none")
