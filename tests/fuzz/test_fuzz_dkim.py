"""Whatever a stranger sends or publishes: a defined result, and never an exception.

The invariants: every signature among the topmost eight gets one result of RFC 8601, with a reason unless it passed; a
chain gets one of ARC's; keys are asked for at most once per name; and what we sign verifies, however odd the message.
"""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.arc import seal, verify_arc
from clawmail.protocol.dkim.keys import KeyRecord, read_key_record
from clawmail.protocol.dkim.sign import generate_ed25519_key, load_signing_key, sign
from clawmail.protocol.dkim.verify import MAX_SIGNATURES, DkimResult, verify_dkim
from clawmail.protocol.headers import split_message
from tests.support.signatures import EdwardsKey, TextbookRsa, craft, craft_set
from tests.support.zones import ScriptedResolver

NOW = 1_700_000_000
KEY_DER, RECORD = generate_ed25519_key()
KEY = load_signing_key("example.com", "sel", KEY_DER)
CRAFTED = EdwardsKey(bytes(range(32)))
RSA = TextbookRsa.read("rsa1024")
MESSAGE = b"From: a@example.com\r\nSubject: b\r\n\r\nHello\r\n"
SIGNED = craft(MESSAGE, CRAFTED)
CHAINED = craft_set(craft_set(SIGNED, CRAFTED, 1), CRAFTED, 2)

#: what messages, tag lists and key records are made of.
TOKENS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b"=", b"\x00", b"\xff", b"\xc3\xa9", b"@", b"."),
        *(b"DKIM-Signature:", b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b"From:"),
        *(b"v=1;", b"a=rsa-sha256;", b"d=example.com;", b"s=sel;", b"h=from;", b"b=QQ==;", b"bh=QQ==;", b"i=1;"),
        *(b"c=relaxed", b"l=9", b"x=1", b"t=1", b"cv=none;", b"v=DKIM1;", b"k=rsa;", b"p=", b"p=MIGf", b"t=y:s;"),
        *(b"From a b\n", b"i=51;", b"999999999999999999999", b"x" * 70),
    ]
)
SOUP = st.lists(st.one_of(TOKENS, st.binary(max_size=6)), max_size=60).map(b"".join)


async def judge(raw: bytes, *records: bytes | str) -> tuple[DkimResult, ...]:
    """Both verdicts on a message, with the invariants checked."""
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": records or (CRAFTED.record(),)}})
    message = split_message(raw)
    results = await verify_dkim(message, resolver, now=NOW)
    assert len(results) == min(MAX_SIGNATURES, len(message.all("dkim-signature")))
    for result in results:
        assert result.result in ("pass", "fail", "policy", "permerror", "temperror")
        assert bool(result.reason) == (result.result != "pass")
        assert len(result.reason) < 500 and result.reason.isprintable()
    assert len(set(resolver.asked)) == len(resolver.asked)
    resolver.asked.clear()
    chain = await verify_arc(message, resolver, now=NOW)
    assert chain.result in ("none", "pass", "fail", "temperror")
    assert bool(chain.reason) == (chain.result != "pass")
    assert 0 <= chain.instance <= 50 and -1 <= chain.oldest_pass <= chain.instance
    assert len(set(resolver.asked)) == len(resolver.asked)
    sealed = seal(message, KEY, authserv_id="x", authentication_results="spf=pass", chain=chain, now=NOW)
    assert len(split_message(sealed).fields) in (0, 3)
    return results


@settings(max_examples=200)
@given(SOUP)
async def test_any_message(raw: bytes) -> None:
    await judge(raw)


@settings(max_examples=150)
@given(SOUP)
async def test_any_signature_field(value: bytes) -> None:
    await judge(b"DKIM-Signature: " + value.replace(b"\n", b" ") + b"\r\n" + MESSAGE)


@settings(max_examples=200)
@given(st.sampled_from([SIGNED, CHAINED]), st.data())
async def test_any_change_of_a_good_message(raw: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 20)))
    await judge(raw[:start] + data.draw(SOUP) + raw[end:])


@settings(max_examples=200)
@given(st.one_of(SOUP, st.binary(max_size=200)))
async def test_any_key_record(record: bytes) -> None:
    for text in (record, b"p=" + base64.b64encode(record), b"k=ed25519; p=" + base64.b64encode(record)):
        read = read_key_record(text)
        assert isinstance(read, KeyRecord) or (read.result == "permerror" and read.reason)
    await judge(SIGNED, record)


@settings(max_examples=150)
@given(SOUP)
async def test_what_we_sign_verifies(soup: bytes) -> None:
    raw = b"From: a@example.com\r\n" + soup
    results = await judge(sign(raw, [KEY], now=NOW) + raw, RECORD)
    assert results[0].result == "pass", (raw, results[0])


LINE = b"x y " * 250_000
ENDLESS = {
    "5,000 signatures": SIGNED[: -len(MESSAGE)] * 5_000 + MESSAGE,
    "a signature of a megabyte": b"DKIM-Signature: v=1; h=" + b"from:" * 200_000 + b"\r\n" + MESSAGE,
    "a megabyte of tags": b"DKIM-Signature: " + b"a=;" * 300_000 + b"\r\n" + MESSAGE,
    "a megabyte of folds": b"DKIM-Signature: v=1;" + b"\r\n " * 300_000 + b"\r\n" + MESSAGE,
    "a megabyte in a signed field": craft(MESSAGE.replace(b"b\r\n", LINE + b"\r\n", 1), RSA),
    "a megabyte in a name": b"X" * 1_000_000 + b": 1\r\n" + SIGNED,
    "a megabyte without a colon": b"X" * 1_000_000 + b"\r\n" + SIGNED,
    "a megabyte of carriage returns": SIGNED + b"\r" * 1_000_000,
    "a megabyte of line ends": SIGNED + b"\r\n" * 500_000 + b"x",
    "a megabyte of blanks": SIGNED + b" \t" * 500_000 + b"x",
    "a name a thousand times": craft(MESSAGE, RSA, {"h": ":".join(["from"] * 900)}),
    "20,000 fields": b"Subject: x\r\n" * 20_000 + SIGNED,
    "a million seals": b"ARC-Seal: i=1\r\n" * 70_000 + SIGNED,
    "results of a megabyte": CHAINED.replace(b"spf=pass", LINE, 1),
    "unclosed comments": b"ARC-Authentication-Results: " + b"(" * 500_000 + b"\r\n" + MESSAGE,
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_size_costs_no_more_than_size(name: str) -> None:
    await judge(ENDLESS[name])


@pytest.mark.parametrize("bits", [16_384, 65_536])
async def test_keys_of_any_size(bits: int) -> None:
    huge = TextbookRsa((1 << (bits - 1)) + 1, 1)
    results = await judge(craft(MESSAGE, RSA), huge.record())
    assert results[0].result in ("policy", "permerror")


async def test_a_record_of_64_kilobytes() -> None:
    results = await judge(SIGNED, b"v=DKIM1; p=" + b"A" * 65_000, b"\x00" * 65_000, CRAFTED.record())
    assert results[0].result == "pass"
