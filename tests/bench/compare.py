"""What changed between two runs: ``python -m tests.bench.compare OLD.json NEW.json [--by RATIO]``.

Prints a Markdown table of the medians that both runs have and of the CPU beside them. What changed by less than
``--by`` (1.1: a tenth) is left out: two runs of the same code differ by as much.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import Figure, Findings, one

HEADER = "| group | what | who | unit | before | after | after by before | |\n|---|---|---|---|---|---|---|---|"
MACHINE = ("when", "commit", "mode", "load average at the start")


@dataclass(frozen=True, slots=True)
class Change:
    """One median, before and after, neither of them 0."""

    figure: Figure
    unit: str
    before: float
    after: float
    #: more of it is better.
    more_is_better: bool

    @property
    def ratio(self) -> float:
        """How many times as much it is."""
        return self.after / self.before

    def __str__(self) -> str:
        better = self.more_is_better == (self.ratio > 1)
        names = (self.figure.group, self.figure.name, self.figure.who, self.unit)
        values = (str(one(self.before)), str(one(self.after)), f"{self.ratio:.2f}", "better" if better else "worse")
        return f"| {' | '.join((*names, *values))} |"


def changes(old: Findings, new: Findings) -> Iterator[Change]:
    """Every median that both have, in the order of ``new``."""
    for after in new.figures:
        before = old.figure(after.group, after.name, after.who)
        if before is None:
            continue
        pairs = [(after.unit, before.spread, after.spread, _more_is_better(after))]
        if before.cpu_seconds_per_1000 and after.cpu_seconds_per_1000:
            pairs.append(("CPU s / 1,000", before.cpu_seconds_per_1000, after.cpu_seconds_per_1000, False))
        for unit, first, second, more in pairs:
            if first.median and second.median:
                yield Change(after, unit, first.median, second.median, more)


def _more_is_better(figure: Figure) -> bool:
    return figure.goal.at_least if figure.goal else figure.unit.endswith("/s")


def page(old: Findings, new: Findings, by: float) -> str:
    """Both runs in a line each, and the table of what changed by the factor ``by`` or more."""
    runs = [
        f"* {word}: " + ", ".join(f"{name} {found.machine[name]}" for name in MACHINE if name in found.machine)
        for word, found in (("before", old), ("after", new))
    ]
    found = [change for change in changes(old, new) if max(change.ratio, 1 / change.ratio) >= by]
    return "\n".join([*runs, "", HEADER, *map(str, found)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--by", type=float, default=1.1, metavar="RATIO", help="the least change that is shown (1.1)")
    chosen = parser.parse_args()
    print(page(Findings.read(chosen.old), Findings.read(chosen.new), chosen.by))
