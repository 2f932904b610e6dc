"""The message's octets: its end, its dots, its line ends and its size, however the blocks are cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.smtpd.data import Collector, DotReader, Problem

#: text rich in what could be mistaken for an end.
TRICKY = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\0", b"\r\n.\r\n", b"\r\n."])).map(
    b"".join
)
CUTS = st.lists(st.integers(1, 7), min_size=1)


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    """``octets`` in blocks of those sizes, over and over."""
    blocks, position, turn = [], 0, 0
    while position < len(octets):
        size = sizes[turn % len(sizes)]
        blocks.append(octets[position : position + size])
        position, turn = position + size, turn + 1
    return blocks


def read_dots(stream: bytes, sizes: list[int], collector: Collector) -> bytes | None:
    """Feeds a stream; what is left behind the end, None if the end did not come."""
    reader = DotReader(collector)
    blocks = cut(stream, sizes)
    for index, block in enumerate(blocks):
        rest = reader.feed(block)
        if rest is not None:
            return rest + b"".join(blocks[index + 1 :])
    return None


def stuffed(message: bytes) -> bytes:
    """What a client sends for a message that ends with CRLF (RFC 5321 section 4.5.2)."""
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a.", b"a\0", b" ."])), st.binary(max_size=9), CUTS)
def test_a_message_comes_out_as_it_went_in(lines: list[bytes], behind: bytes, sizes: list[int]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    collector = Collector(1000)
    assert read_dots(stuffed(message) + behind, sizes, collector) == behind
    assert collector.finish() == message
    assert collector.problem is None


@settings(max_examples=200, deadline=None)
@given(TRICKY, CUTS)
def test_only_crlf_dot_crlf_ends_a_message(stream: bytes, sizes: list[int]) -> None:
    collector = Collector(10_000)
    rest = read_dots(stream, sizes, collector)
    end = (b"\r\n" + stream).find(b"\r\n.\r\n")
    if end < 0:
        assert rest is None
        return
    assert rest == stream[end + 3 :]
    sent = stream[:end]
    bare = re.search(rb"(?<!\r)\n|\r(?!\n)", sent)
    message = collector.finish()
    if bare:
        assert (collector.problem, message) == (Problem.BARE_NEWLINE, b"")
    else:
        unstuffed = re.sub(rb"\A\.|(?<=\r\n)\.", b"", sent)
        assert (collector.problem, message) == (None, unstuffed)


@settings(max_examples=150, deadline=None)
@given(TRICKY, CUTS)
def test_chunks_may_be_cut_anywhere(octets: bytes, sizes: list[int]) -> None:
    whole, pieces = Collector(10_000), Collector(10_000)
    whole.add(octets)
    for block in cut(octets, sizes):
        pieces.add(block)
    assert pieces.finish() == whole.finish()
    assert pieces.problem is whole.problem
    bare = re.search(rb"(?<!\r)\n|\r(?!\n)", octets)
    assert (whole.problem is Problem.BARE_NEWLINE) == bool(bare)


@settings(max_examples=150, deadline=None)
@given(TRICKY, CUTS)
def test_normalising_makes_every_line_end_whole(octets: bytes, sizes: list[int]) -> None:
    collector = Collector(10_000, normalise=True)
    for block in cut(octets, sizes):
        collector.add(block)
    assert collector.finish() == re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
    assert collector.problem is None


@pytest.mark.parametrize(("size", "problem"), [(10, None), (11, Problem.TOO_BIG)])
def test_the_limit_is_inclusive(size: int, problem: Problem | None) -> None:
    collector = Collector(10)
    for _ in range(size):
        collector.add(b"x")
    assert collector.problem is problem
    assert len(collector.finish()) == (0 if problem else size)


def test_dots_taken_off_do_not_count() -> None:
    collector = Collector(4)
    assert read_dots(b"..a\r\n.\r\n", [3], collector) == b""
    assert collector.finish() == b".a\r\n"


def test_a_message_too_big_is_not_kept_while_its_end_is_looked_for() -> None:
    collector = Collector(1000)
    reader = DotReader(collector)
    for _ in range(100):
        assert reader.feed(b"x" * 100) is None
        assert collector.size <= 1000
    assert reader.feed(b"\r\n.\r\nNOOP\r\n") == b"NOOP\r\n"
    assert collector.problem is Problem.TOO_BIG


def test_an_empty_message_is_empty() -> None:
    collector = Collector(10)
    assert DotReader(collector).feed(b".\r\n") == b""
    assert collector.finish() == b""
    assert collector.problem is None


def test_the_first_problem_stands() -> None:
    collector = Collector(10)
    collector.add(b"a\nb")
    collector.add(b"x" * 100)
    assert collector.problem is Problem.BARE_NEWLINE
