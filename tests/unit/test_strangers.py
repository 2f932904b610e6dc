"""The pure parts of judging strangers: list names, EHLO names, patterns of senders."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from clawmail.protocol.dnsbl import ListZone, is_listed, parse_zone, query_name
from clawmail.protocol.helo import problem_of_helo
from clawmail.protocol.senders import matching_verdict, parse_pattern
from tests.support.zones import SERVFAIL, ScriptedResolver


def test_names_asked_of_a_list() -> None:
    # The examples of RFC 5782 sections 2.1 and 2.4.
    assert query_name(ip_address("192.0.2.99"), "bad.example.com") == "99.2.0.192.bad.example.com"
    assert query_name(ip_address("::ffff:192.0.2.99"), "bad.example.com") == "99.2.0.192.bad.example.com"
    nibbles = "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.1.2.3.4.5.6.7"
    address = "7654:3210:1:2:3:4:567:89ab"
    assert query_name(ip_address(address), "ugly.example.com") == f"{nibbles}.ugly.example.com".replace(
        nibbles, ".".join(reversed(ip_address(address).exploded.replace(":", "")))
    )


@pytest.mark.parametrize(
    ("records", "listed"),
    [
        (["127.0.0.2"], True),
        (["127.0.0.2", "127.0.0.10"], True),
        ([], False),
        # Not an answer of a list: a resolver or a lapsed zone that answers everything.
        (["192.0.2.1"], False),
        # "You ask too much" is no word about the client.
        (["127.255.255.254"], False),
        (SERVFAIL, False),
    ],
)
async def test_what_counts_as_listed(records: list[str] | str, listed: bool) -> None:
    resolver = ScriptedResolver({"99.2.0.192.bl.test": {"A": records}, "bl.test": {"A": ["192.0.2.53"]}})
    assert await is_listed(resolver, "bl.test", ip_address("192.0.2.99")) is listed


def test_zones_and_weights() -> None:
    assert parse_zone("BL.Example.org") == ListZone("bl.example.org", 1)
    assert parse_zone("bl.example.org = 5") == ListZone("bl.example.org", 5)
    for wrong in ("", "bl.example.org=", "bl.example.org=0", "bl.example.org=-1", "bl.example.org=x", "a b"):
        with pytest.raises(ValueError, match="expected zone"):
            parse_zone(wrong)


@pytest.mark.parametrize(
    ("helo", "good"),
    [
        ("mail.sender.test", True),
        ("[192.0.2.1]", True),
        ("bücher.test", True),
        ("localhost", False),
        ("192.0.2.1", False),
        ("[192.0.2.2]", False),
        ("[IPv6:2001:db8::1]", False),
        ("[nonsense]", False),
        ("mx.example.test", False),
        ("MX.Example.Test.", False),
        ("-.test", False),
    ],
)
def test_what_a_client_may_call_itself(helo: str, good: bool) -> None:
    assert (problem_of_helo(helo, ip_address("192.0.2.1"), "mx.example.test") == "") is good


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Joe@Sender.Test", "joe@sender.test"),
        ("Sender.Test", "sender.test"),
        (".sender.test", ".sender.test"),
        ("192.0.2.77/24", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("münchen.test", "xn--mnchen-3ya.test"),
        ("192.0.2.0/99", None),
        ("two words", None),
        ("@sender.test", None),
    ],
)
def test_patterns_have_one_form(text: str, pattern: str | None) -> None:
    assert parse_pattern(text) == pattern


def test_the_most_exact_pattern_wins() -> None:
    rules = {
        "joe@a.sender.test": "address",
        "a.sender.test": "host",
        ".sender.test": "below",
        "192.0.2.0/24": "network",
        "192.0.2.7/32": "one address",
    }
    here, elsewhere = ip_address("192.0.2.1"), ip_address("198.51.100.1")
    assert matching_verdict(rules, here, "JOE@a.sender.test") == "address"
    assert matching_verdict(rules, here, "ann@A.Sender.Test") == "host"
    assert matching_verdict(rules, here, "ann@b.sender.test") == "below"
    assert matching_verdict(rules, elsewhere, "ann@sender.test") == "below"
    assert matching_verdict(rules, elsewhere, "ann@xsender.test") is None
    assert matching_verdict(rules, here, "") == "network"
    assert matching_verdict(rules, ip_address("192.0.2.7"), "") == "one address"
    assert matching_verdict({}, here, "joe@a.sender.test") is None
