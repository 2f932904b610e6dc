"""``clawmail queue top`` at a terminal: where mail waits, looked up every second and fitted to the width there is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from clawmail.base.errors import StoreUnwell

if TYPE_CHECKING:
    from rich.table import Table

#: seconds between two looks.
REFRESH_SECONDS = 1.0
#: a terminal with fewer columns shows only what is needed to see that something is wrong, and where.
WIDE = 100
NUMBERS = ("waiting", "due", "deferred", "leased", "held")
ONLY_WIDE = ("deferred", "held")
#: lines around the rows: the headings, an empty one, the last one.
FRAME_LINES = 3

Rows = Sequence[dict[str, Any]]


async def watch(look: Callable[[], Awaitable[Rows]]) -> None:
    """Shows what ``look`` finds until q or Ctrl-C; while the database is away, what it found last."""
    from rich.console import Console, Group
    from rich.live import Live

    console = Console(highlight=False, markup=False, emoji=False)
    stop, rows = asyncio.Event(), list[dict[str, Any]]()
    with _on_q(stop.set), Live(console=console, screen=True, auto_refresh=False) as live:
        while not stop.is_set():
            problem = ""
            try:
                rows = list(await look())
            except StoreUnwell as unwell:
                problem = f"{unwell.message}, this is old  "
            now = datetime.now(UTC)
            shown = rows[: max(1, console.height - FRAME_LINES)]
            state = "" if rows else "the queue is empty  "
            foot = f"{now:%H:%M:%S} UTC  {problem}{state}{_left_out(rows, shown)}q: end"
            live.update(Group(table(shown, now, console.width), "", foot), refresh=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_SECONDS):
                    await stop.wait()


def table(rows: Rows, now: datetime, width: int) -> Table:
    """The rows of ``top`` for a terminal of ``width`` columns, each on one line, ages in place of times."""
    from rich.table import Table

    numbers = [name for name in NUMBERS if width >= WIDE or name not in ONLY_WIDE]
    made = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", expand=True)
    made.add_column("site", no_wrap=True, ratio=3)
    for name in (*numbers, "oldest", "next"):
        made.add_column(name, justify="right", no_wrap=True)
    made.add_column("closed", no_wrap=True, ratio=4 if width >= WIDE else 2)
    for row in rows:
        oldest = _span(now - datetime.fromisoformat(row["oldest"]))
        made.add_row(
            row["site"], *(f"{row[name]:,}" for name in numbers), oldest, _next(row, now), closed(row, now) or ""
        )
    return made


def closed(row: dict[str, Any], now: datetime) -> str | None:
    """Why nothing, or not everything, goes to a site now; None where it does."""
    if row["paused_at"] is not None:
        return f"paused {row['pause_reason'] or ''}".strip()
    if row["parked_until"] is not None and datetime.fromisoformat(row["parked_until"]) > now:
        return f"parked: {row['problem']}"
    if row["paused_domains"]:
        return f"paused: {', '.join(row['paused_domains'])}"
    return None


def _next(row: dict[str, Any], now: datetime) -> str:
    """How long until something is tried there."""
    if row["paused_at"] is not None or row["next_attempt_at"] is None:
        return "-"
    moments = [row["next_attempt_at"], row["parked_until"]]
    moment = max(datetime.fromisoformat(one) for one in moments if one is not None)
    return "now" if moment <= now else _span(moment - now)


def _span(length: Any) -> str:
    """A length of time in the one unit that says most: 45 s, 12 min, 3 h, 2 d."""
    seconds = max(0, int(length.total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _left_out(rows: Rows, shown: Rows) -> str:
    return f"{len(rows) - len(shown)} more below  " if len(rows) > len(shown) else ""


@contextlib.contextmanager
def _on_q(stop: Callable[[], None]) -> Iterator[None]:
    """Calls ``stop`` when q is pressed, or when nobody can press it any more."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield
        return
    keyboard, loop = sys.stdin.fileno(), asyncio.get_running_loop()
    before = termios.tcgetattr(keyboard)

    def pressed() -> None:
        keys = os.read(keyboard, 64)
        if not keys or b"q" in keys.lower():
            stop()

    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, pressed)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
