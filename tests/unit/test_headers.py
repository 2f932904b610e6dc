"""Cutting messages into fields, and reading tag lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.headers import (
    MAX_FIELDS,
    MAX_HEADER_BYTES,
    parse_tag_list,
    split_message,
    tag_list_problem,
    to_crlf,
    unfold,
)


def test_fields_keep_what_was_written() -> None:
    message = split_message(b"From: a@b\r\nSubject : two\r\n\tlines \r\nFROM:c\r\n\r\nbody\r\n")
    assert [field.name for field in message.fields] == [b"From", b"Subject", b"FROM"]
    assert message.fields[1].value == b" two\r\n\tlines "
    assert message.fields[1].raw == b"Subject : two\r\n\tlines \r\n"
    assert message.body == b"body\r\n"
    assert message.first("from") == message.fields[0]
    assert message.all(b"From") == [message.fields[0], message.fields[2]]
    assert message.first("to") is None and message.all("to") == []
    assert not message.truncated


@pytest.mark.parametrize(
    ("raw", "names", "body"),
    [
        (b"", [], b""),
        (b"\r\n", [], b""),
        (b"\r\nbody", [], b"body"),
        (b"just a line", [], b"just a line"),
        (b"A: 1", [b"A"], b""),
        (b"A: 1\r\n", [b"A"], b""),
        (b"A: 1\r\n\r\n", [b"A"], b""),
        (b"A: 1\n b\n\nbody\n", [b"A"], b"body\n"),
        (b"A: 1\r\nno field here\r\nB: 2\r\n\r\nbody", [b"A"], b"no field here\r\nB: 2\r\n\r\nbody"),
        (b" continues nothing\r\nA: 1\r\n\r\n", [], b" continues nothing\r\nA: 1\r\n\r\n"),
        (b"From a@b Mon Jan  1 00:00:00 2024\r\nA: 1\r\n\r\nbody", [b"A"], b"body"),
        (b"A: 1\r\n \r\n\r\nbody", [b"A"], b"body"),
        (b"A: 1\rB: 2\r\n\r\nbody", [b"A"], b"body"),
        (b": no name\r\n\r\n", [], b": no name\r\n\r\n"),
        (b"\xff\xfe: 8 bit\r\n\r\nx", [b"\xff\xfe"], b"x"),
    ],
)
def test_oddities(raw: bytes, names: list[bytes], body: bytes) -> None:
    message = split_message(raw)
    assert [field.name for field in message.fields] == names
    assert message.body == body


def test_a_last_field_without_line_end_gets_one() -> None:
    assert split_message(b"A: 1").fields[0].raw == b"A: 1\r\n"


@given(st.lists(st.sampled_from([b"A", b":", b" ", b"\t", b"\r\n", b"\n", b"\r", b"b: c\r\n", b"\x00"]), max_size=30))
def test_nothing_is_lost(pieces: list[bytes]) -> None:
    """Fields, the empty line and the body put together are the message."""
    raw = b"".join(pieces)
    message = split_message(raw)
    assert not message.truncated
    header = b"".join(field.raw for field in message.fields)
    if not raw.endswith(b"\n") and not message.body:
        header = header.removesuffix(b"\r\n") if message.fields else header
    assert raw.startswith(header)
    assert raw[len(header) : message.body_start] in (b"", b"\r\n", b"\n")
    assert raw[message.body_start :] == message.body


def test_more_fields_than_are_looked_at() -> None:
    message = split_message(b"A: 1\r\n" * (MAX_FIELDS + 1) + b"\r\nbody")
    assert message.truncated and len(message.fields) == MAX_FIELDS
    assert message.body == b"body"


def test_more_header_than_is_looked_at() -> None:
    message = split_message(b"A: " + b"x" * MAX_HEADER_BYTES + b"\r\nB: 2\r\n\r\nbody")
    assert message.truncated and [field.name for field in message.fields] == [b"A"]
    assert message.body == b"body"
    assert split_message(b"A: " + b"x" * MAX_HEADER_BYTES + b"\r\n\r\nbody").truncated is False


def test_a_million_folded_lines_are_one_field() -> None:
    message = split_message(b"A:" + b"\r\n x" * 1_000_000 + b"\r\n\r\nbody")
    assert len(message.fields) == 1 and message.body == b"body"


def test_to_crlf() -> None:
    assert to_crlf(b"a\nb\r\nc\rd\n") == b"a\r\nb\r\nc\rd\r\n"
    already = b"a\r\n"
    assert to_crlf(already) is already


def test_unfold() -> None:
    assert unfold(b" a\r\n\tb\n c") == b" a\tb c"


def test_tag_list_keeps_order_and_case() -> None:
    tags = parse_tag_list(b" v=1; A = x y ;\r\n\tb=a=b;\r\n c=; ")
    assert tags == {"v": b"1", "A": b"x y", "b": b"a=b", "c": b""}
    assert list(tags) == ["v", "A", "b", "c"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"", "empty"),
        (b" ; ", "not of the form"),
        (b"a=1;;b=2", "not of the form"),
        (b"a=1; b", "not of the form"),
        (b"a=1; a=2", "given twice"),
        (b"1a=1", "not a tag name"),
        (b"a b=1", "not a tag name"),
        (b"a=\x00", "control characters"),
        (b"a=x\rb", "control characters"),
    ],
)
def test_broken_tag_lists(value: bytes, problem: str) -> None:
    assert parse_tag_list(value) is None
    assert problem in tag_list_problem(value)


@given(st.binary(max_size=60))
def test_a_broken_list_always_has_a_reason(value: bytes) -> None:
    assert (parse_tag_list(value) is None) == bool(tag_list_problem(value))
