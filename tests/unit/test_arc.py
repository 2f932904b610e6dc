"""ARC: chains that hold, and chains that do not."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from clawmail.protocol.arc import ArcResult, seal, verify_arc
from clawmail.protocol.arc.chain import MAX_SETS
from clawmail.protocol.headers import MAX_FIELDS, split_message
from tests.support.chains import KEYS, MESSAGE, NOW, ZONE, chain_of, hop, judge, judge_of_dkimpy
from tests.support.signatures import TextbookRsa, craft, craft_seal, literal_body, literal_field
from tests.support.zones import SERVFAIL, ScriptedResolver


async def test_no_chain() -> None:
    result = await judge(MESSAGE)
    assert (result.result, result.instance, result.sealers) == ("none", 0, ())


async def test_a_chain_of_three() -> None:
    raw = await chain_of("one.example", "two.example", "three.example")
    assert await judge(raw) == ArcResult("pass", 3, "", 0, ("one.example", "two.example", "three.example"))
    assert judge_of_dkimpy(raw) == b"fail"
    assert judge_of_dkimpy(await chain_of("one.example", "three.example", "one.example")) == b"pass"


async def test_keys_are_asked_for_once_and_newest_first() -> None:
    raw = await chain_of("one.example", "two.example", "one.example")
    resolver = ScriptedResolver(ZONE)
    await verify_arc(split_message(raw), resolver, now=NOW)
    assert [name for _, name in resolver.asked] == ["s._domainkey.one.example", "s._domainkey.two.example"]


async def test_the_order_of_the_fields_does_not_matter() -> None:
    message = split_message(await chain_of("one.example", "two.example"))
    shuffled = b"".join(field.raw for field in sorted(message.fields, key=lambda field: field.name))
    assert (await judge(shuffled + b"\r\n" + message.body)).result == "pass"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"Hello", b"hello", "ARC-Message-Signature i=2: the body"),
        (b"Subject: one", b"Subject: two", "ARC-Message-Signature i=2: the signature"),
        (b"i=1; mx.one.example; spf=pass", b"i=1; mx.one.example; spf=fail", "ARC-Seal i=2"),
        (b"i=2; mx.two.example; spf=pass", b"i=2; mx.two.example; spf=fail", "ARC-Seal i=2"),
        (b"ARC-Seal: i=2; cv=pass", b"ARC-Seal: i=2; cv=none", "says cv=none where cv=pass"),
        (b"ARC-Seal: i=1; cv=none", b"ARC-Seal: i=1; cv=pass", "says cv=pass where cv=none"),
        (b"ARC-Seal: i=1; cv=none;", b"ARC-Seal: i=1;", "says cv= where cv=none"),
        (b"ARC-Seal: i=2; cv=pass", b"ARC-Seal: i=2; cv=fail", "had failed"),
        (b"ARC-Seal: i=1; cv=none", b"ARC-Seal: i=1; cv=fail", "says cv=fail"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=2; h=from;", "ARC-Seal i=2: a seal must not have h="),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=3;", "three fields"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=1;", "twice"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=0;", "not a number from 1 to 50"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=51;", "not a number from 1 to 50"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: i=two;", "not a number from 1 to 50"),
        (b"ARC-Seal: i=2;", b"ARC-Seal: ;", "malformed"),
        (b"ARC-Seal: i=2;", b"X-Seal: i=2;", "three fields"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results:", "i= is not a number"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: i=999999999;", "i=999999999"),
        (b"d=two.example", b"d=none.example", "there is no key"),
        (b"a=ed25519-sha256", b"a=rsa-sha1", "rsa-sha1"),
        (b"h=from:", b"h=arc-seal:from:", "covers ARC-Seal"),
        (b"\tbh=", b"\ty=", "h= or bh= is missing"),
    ],
)
async def test_broken_chains(old: bytes, new: bytes, reason: str) -> None:
    raw = await chain_of("one.example", "two.example")
    assert old in raw
    result = await judge(raw.replace(old, new, 1))
    assert result.result == "fail"
    assert reason in result.reason
    assert result.oldest_pass == -1


async def test_a_chain_of_bad_shape_asks_for_no_key() -> None:
    raw = (await chain_of("one.example", "two.example")).replace(b"ARC-Seal: i=1", b"X: i=1")
    resolver = ScriptedResolver(ZONE)
    assert (await verify_arc(split_message(raw), resolver, now=NOW)).result == "fail"
    assert resolver.asked == []


async def test_a_dns_failure_is_temporary_and_not_sealed() -> None:
    raw = await chain_of("one.example", "two.example")
    for silent in ("one", "two"):
        zone = {**ZONE, f"s._domainkey.{silent}.example": {"TXT": SERVFAIL}}
        result = await judge(raw, zone)
        assert result.result == "temperror" and "looked up" in result.reason
        message = split_message(raw)
        assert (
            seal(message, KEYS["one.example"], authserv_id="x", authentication_results="", chain=result, now=NOW) == b""
        )
    # What is certainly broken stays broken, whatever else cannot be known.
    zone = {**ZONE, "s._domainkey.one.example": {"TXT": SERVFAIL}}
    assert (await judge(raw.replace(b"Hello", b"hello"), zone)).result == "fail"


async def test_fifty_sets_and_no_more() -> None:
    raw = MESSAGE
    for _ in range(MAX_SETS):
        raw = await hop(raw, "two.example")
    result = await judge(raw)
    assert (result.result, result.instance, result.oldest_pass) == ("pass", 50, 0)
    assert await hop(raw, "one.example") == raw
    set_51 = b"".join(field.raw.replace(b"i=50;", b"i=51;") for field in split_message(raw).fields[:3])
    resolver = ScriptedResolver(ZONE)
    over = await verify_arc(split_message(set_51 + raw), resolver, now=NOW)
    assert (over.result, resolver.asked) == ("fail", [])
    assert "more than 50" in over.reason


async def test_five_thousand_seals_are_cheap() -> None:
    seals = b"".join(b"ARC-Seal: i=%d; cv=none\r\n" % i for i in range(5_000))
    resolver = ScriptedResolver(ZONE)
    assert (await verify_arc(split_message(seals + MESSAGE), resolver, now=NOW)).result == "fail"
    assert resolver.asked == []


async def test_a_header_not_seen_to_its_end_has_no_chain_that_holds() -> None:
    raw = await hop(MESSAGE)
    result = await judge(raw.replace(b"\r\n\r\n", b"\r\nX: 1" * MAX_FIELDS + b"\r\n\r\n", 1))
    assert (result.result, result.instance) == ("fail", 1) and "larger" in result.reason


async def test_a_large_message_is_computed_in_a_thread() -> None:
    raw = await hop(await hop(MESSAGE + b"x" * 70 + b"\r\n" * 200_000 + b"end\r\n"), "two.example")
    assert (await judge(raw)).result == "pass"
    assert (await judge(raw + b"more\r\n")).result == "fail"


@pytest.mark.parametrize("signed_as", ["simple/simple", "relaxed/simple", "simple", "relaxed/relaxed"])
@pytest.mark.parametrize("said", [True, False])
async def test_forms_of_a_message_signature(signed_as: str, said: bool) -> None:
    """Without c= it is simple/simple as in DKIM, or relaxed/relaxed as in ARC's drafts."""
    key = TextbookRsa.read("rsa2048")
    if said:
        tags: dict[str, str | None] = {"v": None, "i": "1", "c": signed_as}
        raw = craft(MESSAGE, key, tags, name="ARC-Message-Signature")
    else:
        raw = craft_without_form(key, signed_as)
    zone = {"sel._domainkey.example.com": {"TXT": [key.record()]}}
    result = await judge(craft_seal(b"ARC-Authentication-Results: i=1; x; none\r\n" + raw, key, 1), zone)
    expected = "pass" if said or signed_as in ("simple/simple", "simple", "relaxed/relaxed") else "fail"
    assert result.result == expected, result.reason


@pytest.mark.parametrize("names", ["", "to:subject"])
async def test_a_message_signature_need_not_cover_from(names: str) -> None:
    key = TextbookRsa.read("rsa2048")
    raw = craft(MESSAGE, key, {"v": None, "i": "1", "h": names}, name="ARC-Message-Signature")
    zone = {"sel._domainkey.example.com": {"TXT": [key.record()]}}
    chain = craft_seal(b"ARC-Authentication-Results: i=1; x; none\r\n" + raw, key, 1)
    assert (await judge(chain, zone)).result == "pass"
    assert (await judge(chain.replace(b"Hello", b"hello"), zone)).result == "fail"


def craft_without_form(key: TextbookRsa, signed_as: str) -> bytes:
    """A message signature made in a form that it does not name."""
    header_form, _, body_form = signed_as.partition("/")
    body_hash = base64.b64encode(sha256(literal_body(b"Hello  you\r\n", body_form or "simple")).digest()).decode()
    value = f" i=1; a=rsa-sha256; d=example.com; s=sel; h=from; bh={body_hash}; b=".encode()
    data = literal_field(b"From", b" a@example.com", header_form)
    data += literal_field(b"ARC-Message-Signature", value, header_form).removesuffix(b"\r\n")
    signature = base64.b64encode(key.sign(data, "sha256"))
    return b"ARC-Message-Signature:" + value + signature + b"\r\n" + MESSAGE
