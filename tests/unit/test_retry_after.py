"""Retry-After is a number or a date, and whatever else a server writes there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.retry_after import MAX_DIGITS, retry_after_seconds

NOW = datetime(1994, 11, 6, 8, 48, 37, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60.0),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 60.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("", 0.0),
        ("-5", 0.0),
        ("1.5", 0.0),
        ("\u0661", 0.0),
        ("soon", 0.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", 0.0),
        ("9" * 5000, 10.0**MAX_DIGITS),
    ],
)
def test_examples(field: str, seconds: float) -> None:
    assert retry_after_seconds(field, NOW) == seconds


@given(st.text(max_size=60))
def test_it_never_raises(field: str) -> None:
    assert retry_after_seconds(field, NOW) >= 0.0
