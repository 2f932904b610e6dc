"""A progress bar for people: on standard error, and only when that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """A function to tell the progress to: (of which part, done so far, of about how many; 0: unknown)."""
    if not sys.stderr.isatty():
        yield lambda part, done, of_about: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def tell(part: str, done: int, of_about: int) -> None:
            bar.update(task, description=f"{what} {part}".strip(), completed=done, total=of_about or None)

        yield tell
