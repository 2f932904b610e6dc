"""ARC: what we put on top of what we forward, and what dkimpy says of it."""

from __future__ import annotations

import base64
import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.arc import seal
from clawmail.protocol.dkim.sign import sign
from clawmail.protocol.headers import split_message, unfold
from tests.support.chains import KEYS, MESSAGE, NOW, RSA_DER, RSA_DOMAINS, chain_of, hop, judge, judge_of_dkimpy
from tests.support.signatures import literal_field

WORDS = st.text(st.sampled_from("abXY09 .,;:=@<>é"), max_size=20)


async def test_the_fields_of_a_set() -> None:
    raw = await hop(MESSAGE, results="mx.one.example; spf=pass\r\n smtp.mailfrom=a@example.com;\r\n\tdkim=none")
    sealed, signature, results = split_message(raw).fields[:3]
    assert [sealed.name, signature.name, results.name] == [
        b"ARC-Seal",
        b"ARC-Message-Signature",
        b"ARC-Authentication-Results",
    ]
    assert b" ".join(results.value.split()) == b"i=1; mx.one.example; spf=pass smtp.mailfrom=a@example.com; dkim=none"
    assert (
        unfold(sealed.value)
        .replace(b"\t", b" ")
        .startswith(b" i=1; cv=none; a=rsa-sha256; d=one.example; s=s; t=1700000000;")
    )
    assert b"h=" not in sealed.value and b"bh=" not in sealed.value
    for line in raw[: -len(MESSAGE)].split(b"\r\n"):
        assert len(line) <= 70


async def test_the_message_signature_covers_dkim_signatures_but_no_arc_field() -> None:
    raw = await hop(sign(MESSAGE, [KEYS["one.example"]], now=NOW) + MESSAGE)
    raw = await hop(b"Authentication-Results: x; none\r\n" + raw)
    signature = split_message(raw).all("ARC-Message-Signature")[0]
    names = re.sub(rb"\s", b"", signature.value).partition(b"h=")[2].partition(b";")[0].split(b":")
    assert b"dkim-signature" in names and b"from" in names
    assert not any(name.startswith((b"arc-", b"authentication")) for name in names)


@pytest.mark.parametrize("results", ["", "x\r\nInjected: yes", "a\nb\rc", "\x00\x07", "é" * 300, "mx.one.example;"])
async def test_results_cannot_break_out_of_their_field(results: str) -> None:
    raw = await hop(MESSAGE, results=results)
    assert [field.name for field in split_message(raw).fields[3:]] == [b"From", b"To", b"Subject"]
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", raw)
    assert (await judge(raw)).result == "pass"


async def test_a_list_that_changes_the_message_and_seals() -> None:
    """The older message signature breaks, the chain holds: ``oldest_pass`` tells how far back the message is intact."""
    raw = await chain_of("one.example")
    changed = raw.replace(b"Subject: one", b"Subject: [list] one")
    # The list validated what it got, then changed it, then sealed.
    chain = await judge(raw)
    for domain in ("three.example", "one.example"):
        message = split_message(changed)
        added = seal(
            message,
            KEYS[domain],
            authserv_id="mx",
            authentication_results="arc=pass",
            chain=chain,
            now=NOW,
        )
        changed = added + changed
        chain = await judge(changed)
        assert (chain.result, chain.oldest_pass) == ("pass", 2)
    assert judge_of_dkimpy(changed) == b"pass"


async def test_a_failed_chain_is_sealed_once_as_failed() -> None:
    broken = (await chain_of("one.example", "two.example")).replace(b"Hello", b"hello")
    sealed = await hop(broken, "three.example", "arc=fail")
    newest = split_message(sealed).fields[0]
    assert newest.value.startswith(b" i=3; cv=fail;")
    result = await judge(sealed)
    assert (result.result, result.instance, result.ended) == ("fail", 3, True)
    # RFC 8617 section 5.1 step 2: nothing is added to a chain that says it has failed.
    assert await hop(sealed, "one.example") == sealed
    # Section 5.1.2: that seal covers its own set, as if it were the only one.
    own_set = split_message(sealed).fields[:3]
    data = b"".join(literal_field(f.name, f.value, "relaxed") for f in (own_set[2], own_set[1]))
    value, _, signature = own_set[0].value.partition(b"b=")
    data += literal_field(b"ARC-Seal", value + b"b=", "relaxed").removesuffix(b"\r\n")
    public_key = load_der_private_key(RSA_DER, None).public_key()
    assert isinstance(public_key, RSAPublicKey)
    public_key.verify(base64.b64decode(signature), data, PKCS1v15(), SHA256())


@settings(max_examples=40)
@given(
    st.lists(WORDS, max_size=5),
    st.lists(WORDS, max_size=5),
    st.lists(st.sampled_from(RSA_DOMAINS), min_size=1, max_size=4),
)
async def test_what_we_seal_dkimpy_verifies(values: list[str], lines: list[str], domains: list[str]) -> None:
    header = "".join(f"X-{index}: x{value}\r\n" for index, value in enumerate(values))
    raw = f"From: a@example.com\r\n{header}\r\n{''.join(line + chr(13) + chr(10) for line in lines)}".encode()
    for domain in domains:
        raw = await hop(raw, domain)
    assert judge_of_dkimpy(raw) == b"pass"
    assert (await judge(raw)).result == "pass"


async def test_what_dkimpy_seals_we_verify_and_go_on_sealing() -> None:
    pem = load_der_private_key(RSA_DER, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    raw = MESSAGE
    for number in range(1, 5):
        found = b"none" if number == 1 else b"pass"
        received = b"Authentication-Results: mx.one.example; arc=" + found + b"\r\n" + raw
        raw = b"".join(dkim.arc_sign(received, b"s", b"one.example", pem, b"mx.one.example", timestamp=NOW)) + raw
        assert (await judge(raw)).instance == number
    raw = await hop(raw, "three.example")
    result = await judge(raw)
    assert (result.result, result.instance, result.reason) == ("pass", 5, "")
    assert judge_of_dkimpy(raw) == b"pass"
