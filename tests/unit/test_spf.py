"""SPF against the goldens of ``tests/golden/spf``, and what a golden cannot say: hostile sizes, bounds and evidence."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from clawmail.net.resolver import DnsResolver
from clawmail.protocol.dns import Answer, BudgetedResolver, Status
from clawmail.protocol.spf.check import SpfResult, check_spf
from clawmail.protocol.spf.evaluate import RecordRead
from clawmail.protocol.spf.record import parse_record
from tests.support.dns_server import DnsServer
from tests.support.zones import SERVFAIL, ScriptedResolver

GOLDENS = Path(__file__).parents[1] / "golden" / "spf"


def _goldens() -> list[Any]:
    goldens = []
    for folder in sorted(path for path in GOLDENS.iterdir() if path.is_dir()):
        zone, query, expected = (
            json.loads((folder / f"{part}.json").read_text("utf-8")) for part in ("zone", "query", "expected")
        )
        goldens.append(pytest.param(zone, query, expected, id=folder.name))
    return goldens


@pytest.mark.parametrize(("zone", "query", "expected"), _goldens())
async def test_golden(zone: dict[str, Any], query: dict[str, Any], expected: dict[str, Any]) -> None:
    result = await check_spf(ScriptedResolver(zone), **query)
    assert {key: getattr(result, key) for key in expected} == expected
    assert bool(result.problem) == (result.result in ("none", "temperror", "permerror"))
    assert result.problem.isascii() and result.problem.isprintable()


async def test_goldens_over_the_wire() -> None:
    """The same answers through the real resolver and a real server: nothing of a name is lost on the way."""
    for golden in _goldens():
        zone, query, expected = golden.values
        async with DnsServer(zone) as server:
            resolver = DnsResolver([server.nameserver], timeout_seconds=5)
            result = await check_spf(resolver, **query)
            await resolver.close()
        assert {key: getattr(result, key) for key in expected} == expected, golden.id


async def check(zone: dict[str, Any], ip: str = "192.0.2.10", mail_from: str = "alice@example.org") -> SpfResult:
    return await check_spf(ScriptedResolver(zone), ip=ip, mail_from=mail_from, helo="mx.example.net", now=0)


async def test_evidence_names_every_record_in_order() -> None:
    zone = {
        "example.org": {"TXT": ["v=spf1 include:inc.example.net redirect=end.example.net"]},
        "inc.example.net": {"TXT": ["v=spf1 -all"]},
        "end.example.net": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    }
    result = await check(zone)
    assert (result.result, result.mechanism) == ("pass", "ip4:192.0.2.0/24")
    assert (result.record_domain, result.record) == ("end.example.net", "v=spf1 ip4:192.0.2.0/24 -all")
    assert result.records_read == (
        RecordRead("example.org", "v=spf1 include:inc.example.net redirect=end.example.net"),
        RecordRead("inc.example.net", "v=spf1 -all"),
        RecordRead("end.example.net", "v=spf1 ip4:192.0.2.0/24 -all"),
    )
    assert (result.lookups, result.void_lookups) == (2, 0)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("v=spf1 ip4:192.0.2.0/33 -all", "a prefix length over 32, in 'ip4:192.0.2.0/33'"),
        ("v=spf1 ipv4:192.0.2.1 -all", "unknown term 'ipv4:192.0.2.1'"),
        ("v=spf1 include:gone.example.net -all", "include:gone.example.net of example.org leads to no SPF record"),
        ("v=spf1 redirect=gone.example.net", "redirect=gone.example.net of example.org leads to no SPF record"),
        ("v=spf1 a:dead.example.net -all", "the A records of dead.example.net could not be read"),
        ("v=spf1 " + "a " * 11, "more than 10 terms that ask the DNS"),
        ("v=spf1 a:n1.example a:n2.example a:n3.example", "more than 2 questions without an answer"),
        ("v=spf1 é", "not printable ASCII"),
    ],
)
async def test_the_problem_is_told_in_words(record: str, words: str) -> None:
    zone = {"example.org": {"TXT": [record], "A": ["198.51.100.1"]}, "dead.example.net": {"A": SERVFAIL}}
    assert words in (await check(zone)).problem


async def test_the_problem_never_carries_what_a_stranger_could_inject() -> None:
    zone = {"example.org": {"TXT": ["v=spf1 a:%{l}.example.net -all"]}, "x\r\ny.example.net": {"A": SERVFAIL}}
    result = await check(zone, mail_from="x\r\ny@example.org")
    assert result.result == "temperror"
    assert result.problem.isprintable()
    long = {"example.org": {"TXT": ["v=spf1 include:" + "long." * 2_000 + "example.net -all"]}}
    assert len((await check(long)).problem) <= 300


async def test_a_record_of_64_kilobytes_is_read_to_its_end() -> None:
    terms = [f"ip4:10.{i >> 8}.{i & 255}.1" for i in range(4_100)]
    record = " ".join(["v=spf1", *terms, "ip4:192.0.2.10", "-all"])
    assert 60_000 < len(record) < 65_536
    assert (await check({"example.org": {"TXT": [record]}})).result == "pass"
    assert (await check({"example.org": {"TXT": [record + " bogus"]}})).result == "permerror"


@pytest.mark.parametrize(
    "term",
    [
        "exists:" + "%{l}" * 16_000,
        "exists:" + "a" * 60_000 + "!",
        "exists:" + "1" * 60_000,
        "a:" + "a." * 30_000 + "example",
        "a:" + "/" * 60_000,
        "exists:%{d" + "9" * 60_000 + "}.example",
        "exists:%{d" + ".-" * 30_000 + "}.example",
        "ip4:" + "1" * 60_000,
        "ip6:" + ":" * 60_000,
        "x" * 60_000,
        "x" * 60_000 + "=" + "%%" * 2_000,
        "exists:" + "%" * 60_000,
    ],
    ids=lambda term: term[:14],
)
async def test_a_huge_term_is_judged_without_much_work(term: str) -> None:
    """Parsing is linear: quadratic work on 60 KB would take minutes."""
    result = await check({"example.org": {"TXT": [f"v=spf1 {term} -all"]}})
    assert result.result in ("permerror", "fail")


async def test_macros_grow_a_name_only_to_what_is_asked() -> None:
    resolver = ScriptedResolver({"example.org": {"TXT": ["v=spf1 exists:" + "%{l}." * 100 + "example.net -all"]}})
    await check_spf(resolver, ip="192.0.2.10", mail_from="l" * 60 + "@example.org", helo="mx.example.net")
    name = resolver.asked[-1][1]
    assert 190 < len(name) <= 253 and name.endswith("example.net")


async def test_an_explanation_is_cut() -> None:
    zone = {"example.org": {"TXT": ["v=spf1 -all exp=why.example.org"]}, "why.example.org": {"TXT": ["x" * 60_000]}}
    assert (await check(zone)).explanation == "x" * 1_000


async def test_the_worst_record_stays_within_the_stated_number_of_questions() -> None:
    """Ten mx terms of ten hosts each, then an explanation that wants the macro p: 123 questions."""
    hosts = {f"mx{i}.example.org": {"A": ["198.51.100.1"]} for i in range(10)}
    names = {f"n{i}.example.net": {"A": ["198.51.100.1"]} for i in range(11)}
    resolver = ScriptedResolver(
        {
            "example.org": {"TXT": ["v=spf1 " + "mx " * 10 + "-all exp=%{p}.example"], "MX": [f"1 {h}" for h in hosts]},
            "10.2.0.192.in-addr.arpa": {"PTR": list(names)},
            **hosts,
            **names,
        }
    )
    result = await check_spf(resolver, ip="192.0.2.10", mail_from="a@example.org", helo="mx.example.net")
    assert result.result == "fail"
    assert len(resolver.asked) == 1 + 10 + 100 + 11 + 1


async def test_the_budget_of_a_message_ends_in_temperror() -> None:
    zone = {
        "example.org": {"TXT": ["v=spf1 " + "mx " * 10 + "-all"], "MX": [f"{i} mx{i}.example.org" for i in range(10)]},
        **{f"mx{i}.example.org": {"A": ["198.51.100.1"]} for i in range(10)},
    }
    resolver = ScriptedResolver(zone)
    result = await check_spf(
        BudgetedResolver(resolver, queries=50), ip="192.0.2.10", mail_from="a@example.org", helo="mx.example.net"
    )
    assert result.result == "temperror" and "budget" in result.problem
    assert len(resolver.asked) == 50


async def test_a_record_is_parsed_once() -> None:
    record = b"v=spf1 ip4:203.0.113.77 -all"
    assert await parse_record(record) is await parse_record(record)


async def test_addresses_may_come_parsed() -> None:
    zone = {"example.org": {"TXT": ["v=spf1 ip4:192.0.2.10 -all"]}}
    result = await check_spf(
        ScriptedResolver(zone), ip=ip_address("::ffff:192.0.2.10"), mail_from="a@example.org", helo=""
    )
    assert result.result == "pass"


async def test_an_unreadable_answer_is_not_taken_for_none() -> None:
    class Failing(ScriptedResolver):
        async def txt(self, name: str) -> Answer[bytes]:
            return Answer(Status.FAILURE, problem="timed out")

    result = await check_spf(Failing({}), ip="192.0.2.10", mail_from="a@example.org", helo="")
    assert (result.result, result.problem) == (
        "temperror",
        "the TXT records of example.org could not be read: timed out",
    )
