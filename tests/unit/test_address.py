"""Addresses: strict where mail is sent, forgiving where it is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import text

from clawmail.protocol.address import (
    MAX_AUTHOR_OCTETS,
    Address,
    Mailbox,
    author_domains,
    folded,
    folded_abroad,
    normalise_domain,
    parse_address,
    parse_mailboxes,
)
from clawmail.protocol.mime.mailboxes import MAX_MAILBOXES, MAX_TOKENS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bob@example.org", "bob@example.org"),
        ("  Bob@EXAMPLE.Org. ", "Bob@example.org"),
        ("a.b+c@example.org", "a.b+c@example.org"),
        ('"a b"@example.org', '"a b"@example.org'),
        ('"bob"@example.org', "bob@example.org"),
        ('"b\\ob"@example.org', "bob@example.org"),
        ("bob@bücher.example", "bob@xn--bcher-kva.example"),
        ("bob@xn--bcher-kva.example", "bob@xn--bcher-kva.example"),
        ("bob@ＥＸＡＭＰＬＥ。org", "bob@example.org"),
        ("jörg@example.org", "jörg@example.org"),
        ("bob@[192.0.2.1]", "bob@[192.0.2.1]"),
        ("bob@[IPv6:2001:DB8::0001]", "bob@[IPv6:2001:db8::1]"),
        ("x" * 64 + "@example.org", "x" * 64 + "@example.org"),
    ],
)
def test_an_address_mail_can_be_sent_to(text: str, expected: str) -> None:
    address = parse_address(text)
    assert address is not None
    assert str(address) == expected
    assert address.smtputf8 == (not expected.isascii())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "bob",
        "@example.org",
        "bob@",
        "bob@exam ple.org",
        "b ob@example.org",
        "bob..b@example.org",
        ".bob@example.org",
        "bob@-example.org",
        "bob@example..org",
        "bob@.org",
        "bob@" + "x" * 64 + ".org",
        "x" * 65 + "@example.org",
        "bob@" + ".".join(["x" * 60] * 5),
        "bob@[192.0.2.256]",
        "bob@[foo]",
        "bob@[IPv6:fe80::1%eth0]",
        "<bob@example.org>",
        "bob@example.org\r\nRCPT",
        "bo\nb@example.org",
        '"bo"b"@example.org',
        "bob\ud800@example.org",
        "a@b@example.org",
        "bob@exa\u0000mple.org",
        "ü" * 33 + "@example.org",
    ],
)
def test_no_address(text: str) -> None:
    assert parse_address(text) is None


def test_a_domain_is_folded_to_a_labels() -> None:
    assert normalise_domain("BÜCHER.example") == "xn--bcher-kva.example"
    assert normalise_domain("straße.example") == "xn--strae-oqa.example", "IDNA 2008, not transitional"
    assert normalise_domain("a_b.example.") == "a_b.example"
    assert normalise_domain("") is None
    assert normalise_domain("☃" * 300) is None
    assert Address("a", "b.c") == parse_address("a@b.c")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("Ann Example <ann@example.org>", [("Ann Example", "ann@example.org")]),
        ("ann@example.org", [("", "ann@example.org")]),
        ('"Example, Ann" <a@x.y>, b@x.y (Bob B.)', [("Example, Ann", "a@x.y"), ("Bob B.", "b@x.y")]),
        ('"A \\"B\\" \\\\ C" <a@x.y>', [('A "B" \\ C', "a@x.y")]),
        ("=?utf-8?Q?M=C3=BCller, J.?= <a@x.y>", [("Müller, J.", "a@x.y")]),
        ('"=?utf-8?B?w6k=?=" <a@x.y>', [("é", "a@x.y")]),
        ("=?utf-8?q?a?=\r\n =?utf-8?q?b?= <a@x.y>", [("ab", "a@x.y")]),
        ("team: a@x.y, B <b@x.y>;, c@x.y", [("", "a@x.y"), ("B", "b@x.y"), ("", "c@x.y")]),
        ("undisclosed-recipients:;", []),
        ("<@relay,@other:a@x.y>", [("", "a@x.y")]),
        ("a@x.y; b@x.y", [("", "a@x.y"), ("", "b@x.y")]),
        ("a@x.y b@x.y", [("", "a@x.y"), ("", "b@x.y")]),
        ("A <a@x.y> B <b@x.y>", [("A B", "a@x.y"), ("", "b@x.y")]),
        ("Ann a@x.y", [("Ann", "a@x.y")]),
        ("ann . b @ x . y", [("", "ann.b@x.y")]),
        ("a@x.y <b@x.y>", [("a@x.y", "b@x.y")]),
        ("Ann (the (nested) one) B <a@x.y>", [("Ann B", "a@x.y")]),
        ("Ann (never closed <a@x.y>", [("Ann (never closed", "a@x.y")]),
        ("Ann <a@x.y", [("Ann", "a@x.y")]),
        ('"a>b"@x.y', [("", '"a>b"@x.y')]),
        ('<"a b"@x.y>', [("", '"a b"@x.y')]),
        ("root", [("", "root")]),
        ("Ann Example", [("", "Ann Example")]),
        ("Ann <>", [("Ann", "")]),
        ("<>", []),
        ("", []),
        ("a@[192.0.2.1]", [("", "a@[192.0.2.1]")]),
        ("me@müller.example", [("", "me@müller.example")]),
    ],
)
def test_an_address_field(field: str, expected: list[tuple[str, str]]) -> None:
    boxes = [Mailbox(*pair) for pair in expected]
    assert parse_mailboxes(field) == boxes
    assert parse_mailboxes(field.encode()) == boxes


def test_raw_octets_in_names() -> None:
    assert parse_mailboxes(b"caf\xe9 <a@x.y>") == [Mailbox("café", "a@x.y")]
    assert parse_mailboxes(b"a\0b <a@x.y>") == [Mailbox("a\ufffdb", "a@x.y")]


def test_two_hundred_recipients_are_all_read() -> None:
    field = ",\r\n ".join(f'"Person {n}" <p{n}@example.org>' for n in range(200))
    assert len(parse_mailboxes(field)) == 200


def test_the_authors_of_a_message() -> None:
    fields = [b"Ann <ann@Example.ORG>, bob@example.org", "g: x@bücher.example;".encode(), b"y@[192.0.2.1], root"]
    assert author_domains(fields) == ["example.org", "xn--bcher-kva.example", "[192.0.2.1]"]


def test_a_broken_author_is_not_overlooked() -> None:
    assert author_domains([b"a@good.example, b@not a_domain!"]) == ["good.example", "not"]
    assert author_domains([b"a@good.example, b@-bad-.example"]) == ["good.example", "-bad-.example"]


def test_authors_are_searched_within_a_bound() -> None:
    many = b",".join(b"a@d%d.example" % n for n in range(100_000))
    assert 0 < len(author_domains([many])) < MAX_AUTHOR_OCTETS // 10
    assert author_domains([b" " * MAX_AUTHOR_OCTETS, b"a@b.example"]) == []


def test_a_field_of_nothing_but_signs_is_read_so_far_and_no_further() -> None:
    signs = b"," * (2 * MAX_TOKENS)
    assert parse_mailboxes(signs[: MAX_TOKENS - 1] + b"a") == [Mailbox("", "a")]
    assert parse_mailboxes(signs + b"a@b.test") == []
    listed = b"a@b.test, " * MAX_MAILBOXES
    assert len(parse_mailboxes(listed)) == MAX_MAILBOXES


@pytest.mark.parametrize(
    ("address", "ours", "abroad"),
    [
        ("Ann@Example.test", "ann@example.test", "ann@example.test"),
        ("JÖRG@x.test", "jörg@x.test", "jÖrg@x.test"),
        ("JO\u0308RG@x.test", "jörg@x.test", "jo\u0308rg@x.test"),
        ("STRAẞE@x.test", "straße@x.test", "straẞe@x.test"),
        ("İ@x.test", "i\u0307@x.test", "İ@x.test"),
    ],
)
def test_addresses_are_folded_at_home_and_abroad(address: str, ours: str, abroad: str) -> None:
    assert (folded(address), folded_abroad(address)) == (ours, abroad)
    assert (folded(ours), folded_abroad(abroad)) == (ours, abroad)


@given(text())
def test_folding_twice_is_folding_once(address: str) -> None:
    assert folded(folded(address)) == folded(address)
    assert folded_abroad(address) == address.encode().lower().decode()
