"""Canonicalization: the RFC's examples, and agreement with a literal reading of it on anything."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.dkim import canonical
from clawmail.protocol.dkim.canonical import canonical_body, canonical_field, canonical_signature_field
from clawmail.protocol.dkim.hashing import BodyPart, MessageHashes
from clawmail.protocol.headers import HeaderField, split_message
from tests.support.signatures import literal_body, literal_field

FORMS = ("simple", "relaxed")
#: what canonicalization is about, and a little else.
PIECES = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"b c", b"  ", b"\r\n\r\n", b" \r\n", b"\x0b", b"\xff"]),
    max_size=40,
).map(b"".join)


def whole(body: bytes, form: str) -> bytes:
    return b"".join(canonical_body(body, form))


def test_examples_of_the_rfc() -> None:
    """RFC 6376 section 3.4.5."""
    message = split_message(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
    first, second = message.fields
    assert canonical_field(first, "relaxed") + canonical_field(second, "relaxed") == b"a:X\r\nb:Y Z\r\n"
    assert whole(message.body, "relaxed") == b" C\r\nD E\r\n"
    assert canonical_field(first, "simple") + canonical_field(second, "simple") == b"A: X\r\nB : Y\t\r\n\tZ  \r\n"
    assert whole(message.body, "simple") == b" C \r\nD \t E\r\n"


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
        (b" ", b" \r\n", b""),
        (b"x", b"x\r\n", b"x\r\n"),
        (b"x \t", b"x \t\r\n", b"x\r\n"),
        (b"x\r", b"x\r\r\n", b"x\r\r\n"),
        (b"x\r\r\n\r\n", b"x\r\r\n", b"x\r\r\n"),
        (b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n"),
        (b"x\n \ny", b"x\n \ny\r\n", b"x\n \ny\r\n"),
    ],
)
def test_bodies(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert whole(body, "simple") == simple
    assert whole(body, "relaxed") == relaxed


@given(PIECES, st.sampled_from(FORMS), st.integers(1, 9))
def test_bodies_are_what_the_rfc_says_however_they_are_cut(body: bytes, form: str, block_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "BLOCK_BYTES", block_bytes)
        assert whole(body, form) == literal_body(body, form)


@given(PIECES, st.sampled_from(FORMS), st.integers(1, 9), st.sets(st.integers(0, 60), max_size=5))
def test_one_pass_gives_the_digest_of_every_length(body: bytes, form: str, block_bytes: int, lengths: set[int]) -> None:
    parts = [BodyPart(form, length) for length in lengths]
    literal = literal_body(body, form)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "BLOCK_BYTES", block_bytes)
        digests = MessageHashes(split_message(b"\r\n" + body), parts).body(form)
    assert digests.length == len(literal)
    assert digests.digests[None] == hashlib.sha256(literal).digest()
    for length in lengths:
        expected = hashlib.sha256(literal[:length]).digest() if length <= len(literal) else None
        assert digests.digests.get(length) == expected


@given(PIECES, st.sampled_from([b"Name", b"NAME \t"]), st.sampled_from(FORMS), st.integers(0, 30))
def test_fields_are_what_the_rfc_says(value: bytes, name: bytes, form: str, long_value: int) -> None:
    raw = name + b":" + value
    message = split_message(raw + b"\r\n\r\n")
    # The value ends where the field does; a bare LF would be a line end of another kind.
    field = message.fields[0]
    if b"\n" in field.value.replace(b"\r\n", b""):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "LONG_VALUE_BYTES", long_value)
        form_of_field = canonical_field(field, form)
    if not field.raw.endswith(b"\r\n"):
        assert form == "simple" or form_of_field == literal_field(name, field.value, form)
        return
    assert form_of_field == literal_field(name, field.value, form)


@pytest.mark.parametrize(
    ("value", "simple", "relaxed"),
    [
        (b" v=1; b=abc=; d=x", b" v=1; b=; d=x", b"v=1; b=; d=x"),
        (b" v=1; b=abc\r\n\tdef", b" v=1; b=", b"v=1; b="),
        (b"b=abc; bh=b=d", b"b=; bh=b=d", b"b=; bh=b=d"),
        (b" bh=abc;\r\n b = a b ;h=x", b" bh=abc;\r\n b =;h=x", b"bh=abc; b =;h=x"),
        (b" ab=1; h=b=2", b" ab=1; h=b=2", b"ab=1; h=b=2"),
    ],
)
def test_the_signature_is_emptied(value: bytes, simple: bytes, relaxed: bytes) -> None:
    field = HeaderField(b"DKIM-Signature", value, b"DKIM-Signature :" + value + b"\r\n")
    assert canonical_signature_field(field, "simple") == b"DKIM-Signature :" + simple
    assert canonical_signature_field(field, "relaxed") == b"dkim-signature:" + relaxed
