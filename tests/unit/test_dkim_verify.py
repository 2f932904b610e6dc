"""Verifying: every rule of RFC 6376 section 6 and of RFC 8301, on messages signed by an independent signer."""

from __future__ import annotations

import base64

import pytest

from clawmail.protocol.dkim.verify import MAX_SIGNATURES, DkimResult, verify_dkim
from clawmail.protocol.headers import MAX_FIELDS, split_message
from tests.support.signatures import EdwardsKey, Key, TextbookRsa, craft
from tests.support.zones import Records, ScriptedResolver

NOW = 1_700_000_000
RSA = TextbookRsa.read("rsa2048")
OTHER = TextbookRsa.read("other2048")
EDWARDS = EdwardsKey(bytes(range(32)))
MESSAGE = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: one\r\n two\r\n\r\nHello  you \r\n\r\n"


async def judge(raw: bytes, records: Records | None = None, name: str = "sel._domainkey.example.com") -> DkimResult:
    """The result of the topmost signature."""
    zone = {} if records == () else {name: {"TXT": [RSA.record()] if records is None else records}}
    results = await verify_dkim(split_message(raw), ScriptedResolver(zone), now=NOW)
    return results[0]


async def test_no_signature() -> None:
    assert await verify_dkim(split_message(MESSAGE), ScriptedResolver({}), now=NOW) == ()


async def test_a_pass_tells_who_signed() -> None:
    raw = craft(MESSAGE, RSA, {"i": "joe=40x@Mail.example.com", "d": "Example.COM"})
    assert await judge(raw) == DkimResult(
        result="pass",
        signing_domain="example.com",
        selector="sel",
        algorithm="rsa-sha256",
        identity="joe@x@Mail.example.com",
        reason="",
        testing=False,
        key_bits=2048,
        signature_start=raw.split(b" b=")[1][:8].decode(),
        limited=False,
    )


@pytest.mark.parametrize("key", [RSA, EDWARDS, TextbookRsa.read("rsa1024"), TextbookRsa.read("rsa4096")])
@pytest.mark.parametrize("c", [None, "simple", "relaxed", "simple/simple", "simple/relaxed", "relaxed/simple"])
async def test_every_key_and_form(key: Key, c: str | None) -> None:
    result = await judge(craft(MESSAGE, key, {"c": c}), [key.record()])
    assert (result.result, result.reason) == ("pass", "")


@pytest.mark.parametrize(
    ("tags", "result", "reason"),
    [
        # RFC 6376 section 6.1.1: missing tags, values out of their grammar
        ({"v": None}, "permerror", "v= is missing"),
        ({"v": "2"}, "permerror", "version"),
        ({"v": "1.0"}, "permerror", "version"),
        ({"a": "rsa-sha256", "d": None}, "permerror", "d= is missing"),
        ({"s": None}, "permerror", "s= is missing"),
        ({"bh": None}, "permerror", "bh= is missing"),
        ({"h": None}, "permerror", "h= is missing"),
        ({"d": ""}, "permerror", "d="),
        ({"d": "a b"}, "permerror", "d="),
        ({"d": "-"}, "permerror", ""),
        ({"s": "a..b"}, "permerror", "s="),
        ({"s": "a b"}, "permerror", "s="),
        ({"b": "???"}, "permerror", "b="),
        ({"b": "QQ"}, "permerror", "b="),
        ({"b": ""}, "permerror", "b="),
        ({"bh": "!"}, "permerror", "bh="),
        ({"h": "from:a b"}, "permerror", "h="),
        ({"h": "to:subject"}, "permerror", "From"),
        ({"h": ""}, "permerror", "From"),
        ({"t": "soon"}, "permerror", "t="),
        ({"x": "-1"}, "permerror", "x="),
        ({"t": "1600000000", "x": "1600000000"}, "permerror", "expires"),
        ({"l": "3.5", "bh": "QQ=="}, "permerror", "l="),
        ({"1x": "y"}, "permerror", "tag name"),
        # what we do not know
        ({"c": "nowsp"}, "permerror", "canonicalization"),
        ({"c": "relaxed/relaxed/relaxed"}, "permerror", "canonicalization"),
        ({"q": "http"}, "permerror", "query method"),
        # section 3.5, i=
        ({"i": "@example.org"}, "permerror", "not within"),
        ({"i": "a@notexample.com"}, "permerror", "not within"),
        ({"i": "example.com"}, "permerror", "identity"),
        ({"i": "a@b@sub.example.com"}, "pass", ""),
        ({"i": "@sub.example.com"}, "pass", ""),
        # times
        ({"t": str(NOW + 3000)}, "pass", ""),
        ({"t": str(NOW + 4000)}, "fail", "future"),
        ({"x": str(NOW - 301)}, "fail", "expired"),
        ({"x": str(NOW - 299)}, "pass", ""),
        ({"t": str(NOW - 100), "x": str(NOW + 100)}, "pass", ""),
        # l=
        ({"l": "0"}, "policy", "11 octets of the body are not signed"),
        ({"l": "5"}, "policy", "not signed"),
        ({"l": "11"}, "pass", ""),
        ({"l": "12"}, "fail", "shorter"),
        # what is ignored, or harmless
        ({"q": "x-other : dns/txt"}, "pass", ""),
        ({"z": "From:someone=20else"}, "pass", ""),
        ({"unknown_tag": "anything"}, "pass", ""),
        ({"h": "From : TO:sUBJect"}, "pass", ""),
        ({"h": "from::to"}, "pass", ""),
        ({"h": "from:from:to:subject:x-absent:x-absent"}, "pass", ""),
        ({"bh": base64.b64encode(bytes(32)).decode()}, "fail", "body"),
    ],
)
async def test_tags(tags: dict[str, str | None], result: str, reason: str) -> None:
    judged = await judge(craft(MESSAGE, RSA, tags))
    assert judged.result == result, judged.reason
    assert reason in judged.reason and bool(judged.reason) == (result != "pass")
    assert judged.limited == ("l" in tags)


@pytest.mark.parametrize("algorithm", ["rsa-md5", "RSA-SHA256", "dsa-sha256", "rsa", ""])
async def test_unknown_algorithm(algorithm: str) -> None:
    raw = craft(MESSAGE, RSA).replace(b"a=rsa-sha256", b"a=" + algorithm.encode())
    assert (await judge(raw)).result == "permerror"


async def test_sha1_is_policy_and_asks_for_no_key() -> None:
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": [RSA.record()]}})
    raw = craft(MESSAGE, RSA, {"a": "rsa-sha1"})
    (result,) = await verify_dkim(split_message(raw), resolver, now=NOW)
    assert (result.result, result.algorithm, resolver.asked) == ("policy", "rsa-sha1", [])


@pytest.mark.parametrize(
    ("old", "new", "result", "reason"),
    [
        (b"Hello", b"hello", "fail", "bh="),
        (b"Subject: one", b"Subject: One", "fail", "header"),
        (b"Subject: one\r\n two", b"SUBJECT:one   two\t", "pass", ""),
        (b"Hello  you \r\n", b"Hello you\r\n", "pass", ""),
        (b"Hello", b" Hello", "fail", "bh="),
        (b"To: b@example.org\r\n", b"", "fail", "header"),
        (b"To: b@example.org\r\n", b"To: b@example.org\r\nX-New: 1\r\n", "pass", ""),
        # bottom-up: one put on top is not the one that was signed, one put below it is
        (b"DKIM-", b"Subject: new\r\nDKIM-", "pass", ""),
        (b"\r\n\r\n", b"\r\nSubject: new\r\n\r\n", "fail", "header"),
        (b"a=rsa-sha256", b"a=ed25519-sha256", "permerror", "not one for"),
        (b"d=example.com", b"d=example.org", "permerror", "no key"),
    ],
)
async def test_changed_messages(old: bytes, new: bytes, result: str, reason: str) -> None:
    raw = craft(MESSAGE, RSA)
    assert old in raw
    judged = await judge(raw.replace(old, new, 1))
    assert judged.result == result, judged.reason
    assert reason in judged.reason


async def test_oversigned_fields_cannot_be_added() -> None:
    raw = craft(MESSAGE, RSA, {"h": "from:from:to:subject:subject:cc"})
    assert (await judge(raw)).result == "pass"
    for field in (b"From: x@example.com\r\n", b"Subject: new\r\n", b"Cc: c@example.org\r\n"):
        assert (await judge(field + raw)).result == "fail"


async def test_signatures_are_judged_on_their_own() -> None:
    raw = craft(MESSAGE, RSA, {"s": "good"})
    raw = b"DKIM-Signature: nonsense\r\n" + craft(raw, OTHER, {"s": "bad"})
    raw = craft(raw, EDWARDS, {"s": "ed", "h": "from:dkim-signature:dkim-signature"})
    zone = {
        "good._domainkey.example.com": {"TXT": [RSA.record()]},
        "bad._domainkey.example.com": {"TXT": [RSA.record()]},
        "ed._domainkey.example.com": {"TXT": [EDWARDS.record()]},
    }
    results = await verify_dkim(split_message(raw), ScriptedResolver(zone), now=NOW)
    assert [result.result for result in results] == ["pass", "permerror", "fail", "pass"]


async def test_a_signature_never_covers_itself_by_name() -> None:
    """h= names DKIM-Signature once more than there were: the field itself is not the missing one."""
    raw = craft(craft(MESSAGE, RSA), RSA, {"h": "from:dkim-signature:dkim-signature"})
    assert (await judge(raw)).result == "pass"


async def test_only_the_topmost_are_judged() -> None:
    raw = craft(MESSAGE, RSA)
    field = raw[: -len(MESSAGE)]
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": [RSA.record()]}})
    raw = b"".join(field.replace(b"s=sel", b"s=s%d" % i) for i in range(5_000)) + raw
    results = await verify_dkim(split_message(raw), resolver, now=NOW)
    assert [result.selector for result in results] == [f"s{i}" for i in range(MAX_SIGNATURES)]
    assert len(resolver.asked) == MAX_SIGNATURES


async def test_a_header_not_seen_to_its_end_is_not_judged() -> None:
    """Another From could stand where h= starts to count."""
    raw = craft(MESSAGE.replace(b"\r\n\r\n", b"\r\nX: 1" * MAX_FIELDS + b"\r\n\r\n", 1), RSA)
    judged = await judge(raw)
    assert (judged.result, judged.signing_domain) == ("permerror", "example.com")
    assert "larger" in judged.reason


async def test_one_key_is_asked_for_once() -> None:
    raw = craft(craft(MESSAGE, RSA), RSA)
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": [RSA.record()]}})
    results = await verify_dkim(split_message(raw), resolver, now=NOW)
    assert [result.result for result in results] == ["pass", "pass"]
    assert resolver.asked == [("TXT", "sel._domainkey.example.com")]


async def test_a_large_message_with_every_length() -> None:
    """Eight signatures with different l= and forms; the body is hashed in a thread, once per form."""
    raw = MESSAGE + b"line of the body\r\n" * 20_000
    for index in range(8):
        raw = craft(raw, RSA, {"l": str(1 + index * 40_000), "c": f"relaxed/{('simple', 'relaxed')[index % 2]}"})
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": [RSA.record()]}})
    results = await verify_dkim(split_message(raw), resolver, now=NOW)
    assert {result.result for result in results} == {"policy"}
    changed = await verify_dkim(split_message(raw.replace(b"you", b"YOU")), resolver, now=NOW)
    assert [result.result for result in changed] == ["fail"] * 7 + ["policy"]


async def test_spaces_before_the_colon() -> None:
    raw = craft(MESSAGE.replace(b"Subject:", b"Subject \t:"), RSA)
    assert (await judge(raw)).result == "pass"


async def test_internationalised_domains() -> None:
    """RFC 8616: d=, s= and i= may hold U-labels; the DNS is asked for A-labels."""
    raw = craft(MESSAGE, RSA, {"d": "bücher.example", "s": "schlüssel", "i": "jürgen@bücher.example"})
    judged = await judge(raw, [RSA.record()], "xn--schlssel-95a._domainkey.xn--bcher-kva.example")
    assert (judged.result, judged.signing_domain) == ("pass", "xn--bcher-kva.example")
    assert judged.identity == "jürgen@bücher.example"


async def test_white_space_around_the_signature_belongs_to_it() -> None:
    """RFC 6376 section 3.7: b= is emptied "including all surrounding whitespace", wherever the tag stands."""
    raw = craft(MESSAGE, RSA, {"c": "simple"})
    head, start, rest = raw.partition(b"; b=")
    value, end, message = rest.partition(b"\r\n")
    folded = b"\r\n\t" + value[:60] + b" \r\n " + value[60:] + b" "
    assert (await judge(head + start + folded + end + message)).result == "pass"
    assert (await judge(head + b"; b =" + value + end + message)).result == "fail"
