"""Requests of strangers: bodies and query strings, whole, broken and hostile."""

from __future__ import annotations

import gzip
import zlib
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.api import reading
from clawmail.base.errors import ClawmailError, Invalid, TooLarge


class Query(msgspec.Struct, frozen=True):
    page: Annotated[int, msgspec.Meta(ge=1, description="from 1")] = 1
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 20
    is_read: Literal["true", "false"] | None = None


class Body(msgspec.Struct, frozen=True):
    name: str
    colour: Annotated[Literal["red", "blue", "amber"], msgspec.Meta(description="one of three")] = "red"
    count: int | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Query()),
        ("page=2&limit=100&is_read=false", Query(2, 100, "false")),
        ("other=x&page=3", Query(3)),
        ("page=%32", Query(2)),
    ],
)
def test_a_query_is_read(text: str, expected: Query) -> None:
    assert reading.decode_query(text, Query) == expected


@pytest.mark.parametrize(
    "text",
    [
        "page=1.5", "page=0", "page=-1", "page=", "page=1e2", "page=1.0", "page=+1", "page=%201", "page=abc",
        "page=99999999999999999999", "page=%EF%BC%91", "limit=0", "limit=101", "is_read=maybe", "is_read=True",
        "is_read=1", "is_read=", "page=\udcff", "page=1&page=2", "page=%00", "page=%FF", "is_read=null",
    ],
)  # fmt: skip
def test_a_query_value_that_is_not_documented_is_refused_by_name(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        reading.decode_query(text, Query)
    assert text.partition("=")[0] in refused.value.message or "ff" in ascii(text).lower()


def test_too_many_query_fields_are_refused() -> None:
    with pytest.raises(Invalid):
        reading.decode_query("&".join(f"a{n}=1" for n in range(1000)), Query)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "JSON object"),
        (b"  ", "JSON object"),
        (b"{", "not valid JSON: it ends too early"),
        (b"nonsense", "not valid JSON: invalid character"),
        (b'{"name" "a"}', "not valid JSON: expected ':' (byte 8)"),
        (b'{"name":"a"} trailing', "not valid JSON"),
        (b'{"name":"\\ud800"}', "not valid JSON"),
        (b'{"name":"\xff"}', "not valid JSON: it is not UTF-8"),
        (b'{"name":"a","deep":' + b"[" * 100_000, "not valid JSON"),
        (b"[]", "Expected an object, got a list"),
        (b"null", "Expected an object, got null"),
        (b"{}", "name is required"),
        (b'{"name":1}', "name: expected a string, got a whole number"),
        (b'{"name":"a","colour":"green"}', "colour must be one of: red, blue, amber"),
        (b'{"name":"a\\u0000b"}', "NUL"),
        (b'{"name":"a\\\\\\u0000b"}', "NUL"),
    ],
)
def test_a_broken_body_is_refused_in_words(raw: bytes, said: str) -> None:
    with pytest.raises(Invalid) as refused:
        reading.decode_json(raw, Body)
    assert said in refused.value.message


class Nested(msgspec.Struct, frozen=True):
    """Text in every place a body can have it."""

    words: list[str] | None = None
    pairs: dict[str, str] | None = None
    parts: list[Body] | None = None


@pytest.mark.parametrize(
    "body", [rb'{"words":["a","\u0000"]}', rb'{"pairs":{"\u0000":"a"}}', rb'{"pairs":{"a":"\u0000"}}']
)
def test_a_nul_is_found_wherever_it_is(body: bytes) -> None:
    with pytest.raises(Invalid, match="NUL"):
        reading.decode_json(body, Nested)


def test_a_nul_in_what_nobody_reads_hurts_nobody() -> None:
    assert reading.decode_json(rb'{"parts":[{"name":"x"}],"unknown":"\u0000"}', Nested) == Nested(parts=[Body("x")])


def test_a_backslash_before_u0000_is_not_a_nul() -> None:
    assert reading.decode_json(b'{"name":"a\\\\u0000b"}', Body) == Body("a\\u0000b")


def test_unknown_fields_are_ignored() -> None:
    assert reading.decode_json(b'{"name":"a","later":[1,{"x":null}]}', Body) == Body("a")


def test_gzip_of_several_members_is_read_whole() -> None:
    assert reading.gunzip(gzip.compress(b"one") + gzip.compress(b"two"), 100) == b"onetwo"


@pytest.mark.parametrize(
    "broken",
    [
        b"plain",
        gzip.compress(b"x" * 100)[:-1],
        gzip.compress(b"x")[:5],
        gzip.compress(b"x") + b"tail",
        zlib.compress(b"x"),
    ],
    ids=["plain", "cut in its trailer", "cut in its header", "with a tail", "zlib"],
)
def test_a_broken_gzip_stream_is_refused(broken: bytes) -> None:
    with pytest.raises(Invalid):
        reading.gunzip(broken, 1000)


def test_a_small_stream_cannot_unfold_into_a_large_one() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 60_000
    with pytest.raises(TooLarge):
        reading.gunzip(bomb, 1_000_000)
    with pytest.raises(TooLarge):
        reading.gunzip(gzip.compress(bytes(600)) + gzip.compress(bytes(600)), 1000)
    assert reading.gunzip(gzip.compress(bytes(1000)), 1000) == bytes(1000)


@given(st.text() | st.sampled_from(["page", "limit=1&", "%", "&&&=", "is_read=%f0"]))
@settings(max_examples=100)
def test_any_query_is_read_or_refused(text: str) -> None:
    _read_or_refused(lambda: reading.decode_query(text, Query))


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(msgspec.json.encode))
@settings(max_examples=100)
def test_any_body_is_read_or_refused(raw: bytes) -> None:
    _read_or_refused(lambda: reading.decode_json(raw, Body))
    _read_or_refused(lambda: reading.gunzip(raw, 1000))


def _read_or_refused(read: Any) -> None:
    try:
        read()
    except ClawmailError as refused:
        assert refused.message
