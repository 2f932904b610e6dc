"""The log: one JSON object a line, secrets dropped at the source, and no text of a stranger that breaks it."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from clawmail.base import log


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.BytesIO]:
    """What is written to standard error as JSON."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(written, write_through=True))
    log.configure("info", "json")
    yield written
    monkeypatch.undo()
    log.configure("info", "text")


def last(written: io.BytesIO) -> dict[str, Any]:
    """The last line, read."""
    line: dict[str, Any] = json.loads(written.getvalue().splitlines()[-1])
    return line


def test_a_line_says_what_happened_and_to_whom(lines: io.BytesIO) -> None:
    log.logger("smtp").info("received", mail_from="a@b", rcpt=2)
    assert last(lines).items() >= {"event": "received", "concern": "smtp", "mail_from": "a@b", "rcpt": 2}.items()


@pytest.mark.parametrize("name", sorted(log.SECRET_FACTS))
def test_secrets_are_dropped_whatever_a_caller_passes(lines: io.BytesIO, name: str) -> None:
    log.logger("api").info("judged", **{name: "cm_0123"})
    assert b"cm_0123" not in lines.getvalue()
    assert last(lines)[name] == "[secret]"


@pytest.mark.parametrize("text", ["\ud800", "two\nlines", "\x00", '"quoted"', "é"])
def test_no_text_breaks_a_line(lines: io.BytesIO, text: str) -> None:
    log.logger("smtp").info("refused", helo=text, problem=ValueError(text))
    assert lines.getvalue().count(b"\n") == 1
    assert last(lines)["helo"] == text


def test_what_is_below_the_level_is_not_written(lines: io.BytesIO) -> None:
    log.logger("smtp").debug("detail")
    assert lines.getvalue() == b""
