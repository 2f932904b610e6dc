"""SMTP replies out of any stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.replies import MAX_LINE_OCTETS, MAX_LINES, ReplyReader, our_reply, status_in


def read(data: bytes) -> list[str]:
    reader = ReplyReader()
    replies = [str(reply) for reply in reader.feed(data)]
    return [*replies, f"broken: {reader.broken}"] if reader.broken else replies


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"250 2.1.5 ok\r\n", ["250 2.1.5 ok"]),
        (b"250\r\n", ["250"]),
        (b"250-one\r\n250-two\r\n250 three\r\n", ["250 one two three"]),
        (b"550-5.1.1 no such\r\n550 5.1.1 user here\r\n", ["550 5.1.1 no such user here"]),
        (b"250 ok\n354 go\n", ["250 ok", "354 go"]),  # a host that ends lines with LF alone
        (b"550 2.1.1 confused\r\n", ["550 2.1.1 confused"]),  # RFC 3463: a class that does not fit is text
        (b"250 5.1.1 confused\r\n", ["250 5.1.1 confused"]),
        (b"550-one\r\n551 other code\r\n", ["551 one other code"]),
        (b"550 \xff\x00\x1b[2J\r\n", ["550 � [2J"]),
        (b"hello\r\n", ["broken: not an SMTP reply: b'hello'"]),
        (b"199 too low\r\n", ["broken: not an SMTP reply: b'199 too low'"]),
    ],
)
def test_replies_are_cut_out_of_the_stream(data: bytes, replies: list[str]) -> None:
    assert read(data) == replies


def test_the_enhanced_code_decides_between_now_and_never() -> None:
    (temporary,) = ReplyReader().feed(b"550 4.7.1 later\r\n")
    assert (temporary.temporary, temporary.permanent, temporary.positive) == (True, False, False)
    (permanent,) = ReplyReader().feed(b"450 5.1.1 never\r\n")
    assert permanent.permanent
    (success,) = ReplyReader().feed(b"250 2.0.0 ok\r\n")
    assert success.positive and not success.permanent


def test_what_a_stranger_writes_is_bounded() -> None:
    assert read(b"250 " + b"x" * MAX_LINE_OCTETS)[0].startswith("broken")
    assert read(b"250-x\r\n" * (MAX_LINES + 1))[0].startswith("broken")
    reader = ReplyReader()
    reader.feed(b"nonsense\r\n")
    assert reader.feed(b"250 ok\r\n") == []


@given(st.binary(max_size=300), st.integers(1, 40))
def test_where_the_stream_is_cut_makes_no_difference(data: bytes, size: int) -> None:
    whole, pieces = ReplyReader(), ReplyReader()
    expected = whole.feed(data)
    got = [reply for start in range(0, len(data), size) for reply in pieces.feed(data[start : start + size])]
    assert got == expected
    assert bool(whole.broken) == bool(pieces.broken)


def test_the_code_of_a_shown_reply_is_found_again() -> None:
    assert status_in(str(our_reply(550, "5.1.10", "null MX")), "5") == "5.1.10"
    assert status_in("450 4.2.1 busy", "5") == "5.2.1"
    assert status_in("550 no such user", "5") == "5.0.0"
