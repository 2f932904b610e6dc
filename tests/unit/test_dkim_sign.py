"""Signing: what we put on top, what it survives, and what it does not."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.dkim.selection import MAX_NAMES, OVERSIGNED, UNSIGNED
from clawmail.protocol.dkim.sign import (
    SigningKey,
    generate_ed25519_key,
    generate_rsa_key,
    load_signing_key,
    sign,
)
from clawmail.protocol.dkim.verify import DkimResult, verify_dkim
from clawmail.protocol.headers import parse_tag_list, split_message
from tests.support.zones import ScriptedResolver

NOW = 1_700_000_000
RSA_DER, RSA_RECORD = generate_rsa_key()
EDWARDS_DER, EDWARDS_RECORD = generate_ed25519_key()
RSA = load_signing_key("example.com", "r1", RSA_DER)
EDWARDS = load_signing_key("example.com", "e1", EDWARDS_DER)
ZONE = {
    "r1._domainkey.example.com": {"TXT": [RSA_RECORD]},
    "e1._domainkey.example.com": {"TXT": [EDWARDS_RECORD]},
}
MESSAGE = (
    b"Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: Ann <ann@example.com>\r\nTo: b@example.org\r\nSubject: one two\r\n three\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain\r\nX-Own: a\r\nX-Own: b\r\n\r\nHello you\r\n\r\nBye\r\n"
)


async def judge(raw: bytes) -> tuple[DkimResult, ...]:
    return await verify_dkim(split_message(raw), ScriptedResolver(ZONE), now=NOW)


async def results(raw: bytes) -> list[str]:
    return [result.result for result in await judge(raw)]


async def test_two_signatures_that_verify() -> None:
    rsa, edwards = await judge(sign(MESSAGE, [RSA, EDWARDS], now=NOW) + MESSAGE)
    assert (rsa.result, rsa.algorithm, rsa.key_bits, rsa.selector) == ("pass", "rsa-sha256", 2048, "r1")
    assert (edwards.result, edwards.algorithm, edwards.key_bits) == ("pass", "ed25519-sha256", 256)


def test_a_message_may_be_given_split_or_not() -> None:
    assert sign(split_message(MESSAGE), [RSA], now=NOW) == sign(MESSAGE, [RSA], now=NOW)
    assert sign(MESSAGE, [], now=NOW) == b""


def test_the_field() -> None:
    (field,) = split_message(sign(MESSAGE, [RSA], now=NOW + 0.9)).fields
    tags = parse_tag_list(field.value)
    assert tags is not None
    assert field.name == b"DKIM-Signature" and field.raw.endswith(b"\r\n")
    assert [tags[tag] for tag in "vacdst"] == [
        b"1",
        b"rsa-sha256",
        b"relaxed/relaxed",
        b"example.com",
        b"r1",
        b"1700000000",
    ]
    names = re.sub(rb"\s", b"", tags["h"]).split(b":")
    present = [name for name in (f.name.lower() for f in split_message(MESSAGE).fields) if name != b"received"]
    assert sorted(names) == sorted([*present, *OVERSIGNED])


@pytest.mark.parametrize("key", [RSA, EDWARDS])
def test_lines_stay_under_78_columns(key: SigningKey) -> None:
    many = b"".join(b"X-Some-Field-%d: x\r\n" % i for i in range(60)) + MESSAGE
    for line in sign(many, [key], now=NOW).split(b"\r\n"):
        assert len(line.replace(b"\t", b" ")) <= 70


async def test_odd_messages_can_be_signed() -> None:
    """No body, no header, names that h= cannot hold, more fields than h= may name: always a good signature."""
    oddities = [
        b"From: a@example.com\r\n\r\n",
        b"From: a@example.com",
        b"\r\n",
        b"From: a@example.com\r\nX;Y: semicolon\r\n\xff: 8 bit\r\n" + b"N" * 70 + b": long\r\n\r\nx",
        b"From: a@example.com\r\n" + b"X: 1\r\n" * 5_000 + b"\r\nx",
        b"DKIM-Signature: nonsense\r\nFrom: a@example.com\r\n\r\nx",
    ]
    for raw in oddities:
        signed = sign(raw, [RSA], now=NOW)
        assert (await results(signed + raw))[0] == "pass", raw[:60]
        assert signed.count(b":") < MAX_NAMES + 30


def test_keys_are_loaded_from_any_form() -> None:
    private_key = load_der_private_key(RSA_DER, None)
    for encoding in (Encoding.PEM, Encoding.DER):
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            octets = private_key.private_bytes(encoding, form, NoEncryption())
            key = load_signing_key("example.com", "r1", octets)
            assert (key.algorithm, key.public_record()) == ("rsa-sha256", RSA_RECORD)
    assert EDWARDS.public_record() == EDWARDS_RECORD
    assert base64.b64decode(EDWARDS_RECORD.partition("p=")[2], validate=True)


def test_what_is_no_key_is_refused() -> None:
    other = generate_private_key(SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    for octets in (b"", b"-----BEGIN PRIVATE KEY-----", b"junk", other):
        with pytest.raises(ValueError, match=r"."):
            load_signing_key("example.com", "s", octets)


def test_a_private_key_is_not_shown() -> None:
    assert "private_key" not in repr(RSA)


WORDS = st.text(st.sampled_from('abcXYZ019.,;:=@<>()"é'), min_size=1, max_size=8)
LINES = st.lists(WORDS, max_size=5).map(" ".join)
FIELD_NAMES = st.sampled_from(["To", "Subject", "X-Own", "Reply-To", "Content-Type", "Comments-2"])
MESSAGES = st.builds(
    lambda fields, lines: (
        "".join(f"{name}: {value}\r\n" for name, value in [("From", "a@example.com"), *fields])
        + "\r\n"
        + "".join(line + "\r\n" for line in lines)
    ).encode(),
    st.lists(st.tuples(FIELD_NAMES, LINES), min_size=1, max_size=6),
    st.lists(LINES, max_size=6),
)


def _header(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    def changed(raw: bytes) -> bytes:
        header, end, body = raw.partition(b"\r\n\r\n")
        return change(header) + end + body

    return changed


def _capitals(match: re.Match[bytes]) -> bytes:
    return match[0].upper()


#: changes on the way that relaxed canonicalization forgives (RFC 6376 section 3.4.2 and 3.4.4).
SAFE: dict[str, Callable[[bytes], bytes]] = {
    "names in capitals": _header(lambda h: re.sub(rb"(?m)^[\w-]+:", _capitals, h)),
    "fields folded": _header(lambda h: h.replace(b" ", b"\r\n ")),
    "tabs for spaces": _header(lambda h: h.replace(b" ", b"\t")),
    "spaces around the colon": _header(lambda h: re.sub(rb"(?m)^([\w-]+): ", rb"\1 :   ", h)),
    "spaces at the ends of fields": _header(lambda h: h.replace(b"\r\n", b" \t\r\n") + b"  "),
    "more spaces in the body": lambda raw: (
        raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + raw.partition(b"\r\n\r\n")[2].replace(b" ", b" \t ")
    ),
    "spaces at the ends of lines": lambda raw: (
        raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + raw.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"  \r\n")
    ),
    "empty lines at the end": lambda raw: raw + b"\r\n \r\n\r\n",
    "trace fields on top": lambda raw: (
        b"Received: by c\r\nReturn-Path: <>\r\nAuthentication-Results: c; none\r\n" + raw
    ),
}


@settings(max_examples=60)
@given(MESSAGES, st.sets(st.sampled_from(sorted(SAFE))), st.sampled_from([RSA, EDWARDS]))
async def test_what_relaxed_forgives(message: bytes, changes: set[str], key: SigningKey) -> None:
    raw = sign(message, [key], now=NOW) + message
    for change in sorted(changes):
        raw = SAFE[change](raw)
    (result,) = await judge(raw)
    assert result.result == "pass", (changes, result.reason)


@settings(max_examples=120)
@given(MESSAGES, st.data())
async def test_what_nothing_forgives(message: bytes, data: st.DataObject) -> None:
    """Change any one octet that is not white space, drop any field, add any signed or oversigned one: it fails."""
    field = sign(message, [EDWARDS], now=NOW)
    visible = [i for i, octet in enumerate(message) if octet not in b" \t\r\n"]
    kind = data.draw(st.sampled_from(["octet", "drop", "add on top", "add below", "line", "swap"]))
    if kind == "octet":
        index = data.draw(st.sampled_from(visible))
        other = data.draw(st.sampled_from([b"q", b"Q", b"7", b"\xc3"]))
        changed = message[:index] + other + message[index + 1 :]
        # In a name, case is not a change; nor is an octet that was there already.
        if changed.lower() == message.lower():
            return
    elif kind == "drop":
        fields = list(split_message(message).fields)
        del fields[data.draw(st.integers(0, len(fields) - 1))]
        changed = b"".join(f.raw for f in fields) + b"\r\n" + split_message(message).body
    elif kind == "line":
        changed = message + b"x\r\n"
    elif kind == "swap":
        fields = [f for f in split_message(message).fields if f.name == b"X-Own"]
        if len(fields) < 2 or fields[0].value.split() == fields[1].value.split():
            return
        changed = message.replace(fields[0].raw, b"\0").replace(fields[1].raw, fields[0].raw)
        changed = changed.replace(b"\0", fields[1].raw)
        if sorted(changed) != sorted(message) or changed == message:
            return
    else:
        added = data.draw(st.sampled_from(OVERSIGNED)) + b": new\r\n"
        changed = (
            added + message if kind == "add on top" else message.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1)
        )
    (result,) = await judge(field + changed)
    assert result.result == "fail", (kind, changed)


def test_nothing_is_both_signed_and_not() -> None:
    assert UNSIGNED.isdisjoint(OVERSIGNED)
