"""The reverse name check (RFC 8601 section 3)."""

from __future__ import annotations

from typing import Any

import pytest

from clawmail.protocol.iprev import MAX_NAMES, check_iprev
from tests.support.zones import ScriptedResolver

REVERSE = "7.100.51.198.in-addr.arpa"
REVERSE_SIX = "1.0.0.0" + ".0" * 20 + ".8.b.d.0.1.0.0.2.ip6.arpa"

CASES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("names agree", "198.51.100.7", {REVERSE: {"PTR": ["Mx.Example.org."]}, "mx.example.org": {"A": ["198.51.100.7"]}},
     "pass", "mx.example.org"),
    ("the second name agrees", "198.51.100.7",
     {REVERSE: {"PTR": ["a.example.org", "b.example.org"]}, "a.example.org": {"A": ["192.0.2.1"]},
      "b.example.org": {"A": ["192.0.2.9", "198.51.100.7"]}}, "pass", "b.example.org"),
    ("an address of the other family is not asked", "2001:db8::1",
     {REVERSE_SIX: {"PTR": ["six.example.org"]}, "six.example.org": {"AAAA": ["2001:db8::1"], "A": "SERVFAIL"}},
     "pass", "six.example.org"),
    ("an IPv4-mapped address is the IPv4 address", "::ffff:198.51.100.7",
     {REVERSE: {"PTR": ["mx.example.org"]}, "mx.example.org": {"A": ["198.51.100.7"]}}, "pass", "mx.example.org"),
    ("another address", "198.51.100.7", {REVERSE: {"PTR": ["mx.example.org"]}, "mx.example.org": {"A": ["192.0.2.1"]}},
     "fail", "mx.example.org"),
    ("the name does not exist", "198.51.100.7", {REVERSE: {"PTR": ["gone.example.org"]}}, "fail", "gone.example.org"),
    ("no reverse name", "198.51.100.7", {}, "permerror", ""),
    ("an empty reverse name", "198.51.100.7", {REVERSE: {"TXT": ["x"]}}, "permerror", ""),
    ("reverse DNS fails", "198.51.100.7", {REVERSE: {"PTR": "SERVFAIL"}}, "temperror", ""),
    ("forward DNS fails", "198.51.100.7", {REVERSE: {"PTR": ["mx.example.org"]}, "mx.example.org": {"A": "SERVFAIL"}},
     "temperror", ""),
    ("one forward question fails, another agrees", "198.51.100.7",
     {REVERSE: {"PTR": ["a.example.org", "b.example.org"]}, "a.example.org": {"A": "SERVFAIL"},
      "b.example.org": {"A": ["198.51.100.7"]}}, "pass", "b.example.org"),
    ("not an address", "mx.example.org", {}, "permerror", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("ip", "zone", "result", "name"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
async def test_iprev(ip: str, zone: dict[str, Any], result: str, name: str) -> None:
    found = await check_iprev(ScriptedResolver(zone), ip)
    assert (found.result, found.name) == (result, name)
    assert bool(found.problem) == (result != "pass")


async def test_only_a_few_names_of_one_address_are_asked() -> None:
    names = [f"h{number}.example.org" for number in range(300)]
    resolver = ScriptedResolver({REVERSE: {"PTR": names}})
    assert (await check_iprev(resolver, "198.51.100.7")).result == "fail"
    assert len(resolver.asked) == 1 + MAX_NAMES
