"""The figures of docs/performance.md: ``python -m tests.bench.report FINDINGS.json``.

The text between the two marks of that file is written anew from the JSON: the machine, one table for each group, and
what was not measured. Everything else in it is written by people.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from tests.bench.figures import Figure, Findings, row_of

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN = "<!-- figures: python -m tests.bench.report -->"
END = "<!-- end of figures -->"
HEADER = (
    "| what | who | median (min–max) | unit | goal | | CPU s / 1,000 | memory MiB |\n|---|---|---|---|---|---|---|---|"
)
TITLES = {
    "footprint": "Footprint",
    "judging": "Judging and signing, one core",
    "inbound": "Inbound",
    "growth": "The same mail into a large store",
    "outbound": "Outbound",
    "queue": "The queue at size",
    "drain": "A black hole among the destinations",
    "reads": "Reads",
    "isolation": "One tenant floods, another works",
}


def sections(found: Findings) -> str:
    """What stands between the marks."""
    parts = ["\n".join(f"* {name}: {value}" for name, value in found.machine.items())]
    for group, figures in groupby(found.figures, key=lambda figure: figure.group):
        parts.append("\n".join([f"### {TITLES[group]}", "", HEADER, *(_row(figure) for figure in figures)]))
    if found.notes:
        parts.append("\n".join(["### Not measured here", "", *(f"* {n.group}: {n.text}" for n in found.notes)]))
    return "\n\n".join(parts)


def _row(figure: Figure) -> str:
    return "| " + " | ".join(row_of(figure)[1:]) + " |"


def rewrite(page: str, found: Findings) -> str:
    """``page`` with the figures of ``found``. Raises ValueError when a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost one of its marks: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{sections(found)}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewrite(PAGE.read_text(), Findings.read(Path(sys.argv[1]))))
