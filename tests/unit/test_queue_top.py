"""The live table of the queue: a line for each site, whatever the width, with ages that a person reads at a glance."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from clawmail.cli.queue_top import closed, table

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


def site(name: str, **more: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("waiting", "due", "deferred", "leased", "held"), 0)
    row |= dict.fromkeys(("next_attempt_at", "parked_until", "problem", "paused_at", "pause_reason", "paused_domains"))
    return row | {"site": name, "oldest": ago(minutes=90)} | more


def ago(**span: float) -> str:
    return (NOW - timedelta(**span)).isoformat()


PARKED = {
    "parked_until": ago(minutes=-7),
    "next_attempt_at": ago(minutes=1),
    "problem": "451 4.4.1 [busy] " + "x" * 200,
}
ROWS = [
    site("mx.a-very-long-name-of-a-host-somewhere.example", waiting=12_345, due=9, **PARKED),
    site("mx.due.example", waiting=3, due=1, next_attempt_at=ago(seconds=1)),
    site("mx.later.example", waiting=4, deferred=4, held=7, next_attempt_at=ago(hours=-3), oldest=ago(days=4)),
    site("mx.off.example", waiting=1, next_attempt_at=ago(hours=1), paused_at=ago(days=1), pause_reason="they asked"),
]


def drawn(width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), markup=False)
    console.print(table(ROWS, NOW, width))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_each_site_is_one_line_of_the_terminal(width: int) -> None:
    lines = drawn(width)
    assert len(lines) == 1 + len(ROWS) and max(map(len, lines)) <= width
    assert all(line.startswith("mx.") for line in lines[1:])


def test_numbers_and_ages_are_never_cut() -> None:
    for width in (80, 120):
        heading, parked, due, later, off = (line.split() for line in drawn(width))
        assert heading[:3] == ["site", "waiting", "due"]
        assert parked[1:3] == ["12,345", "9"] and "7 min parked:" in " ".join(parked)
        assert due[-1] == "now"
        assert " ".join(later).endswith("4 d 3 h")
        assert "90 min -" in " ".join(off)
    assert "[busy]" in drawn(120)[1], "a host's reply is no markup"
    assert drawn(120)[3].split()[1:6] == ["4", "0", "4", "0", "7"], "a wide terminal shows every state"


def test_why_a_site_is_closed() -> None:
    assert closed(ROWS[1], NOW) is None
    assert closed(ROWS[3], NOW) == "paused they asked"
    assert closed(ROWS[0], NOW + timedelta(minutes=8)) is None, "its parking is over"
    assert closed(site("mx.open.example", paused_domains=["a.example", "b.example"]), NOW) == (
        "paused: a.example, b.example"
    )
