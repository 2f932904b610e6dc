"""The figures of docs/performance.md: ``python -m tests.bench.report FINDINGS.json [BEFORE.json]``.

The text between the two marks of that file is written anew from the JSON: the machine, one table for each group, what
was not measured, and what changed since an earlier run. Everything else in it is written by people.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from tests.bench import compare
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


#: changes by less than a tenth are not told: two runs of the same code differ by as much.
TOLD = 1.1


def sections(found: Findings, earlier: Findings | None = None) -> str:
    """What stands between the marks."""
    parts = ["\n".join(f"* {name}: {value}" for name, value in found.machine.items())]
    for group, figures in groupby(found.figures, key=lambda figure: figure.group):
        parts.append("\n".join([f"### {TITLES[group]}", "", HEADER, *(_row(figure) for figure in figures)]))
    if found.notes:
        parts.append("\n".join(["### Not measured here", "", *(f"* {n.group}: {n.text}" for n in found.notes)]))
    if earlier:
        parts.append("### Before and after\n\n" + compare.page(earlier, found, TOLD))
    return "\n\n".join(parts)


def _row(figure: Figure) -> str:
    return "| " + " | ".join(row_of(figure)[1:]) + " |"


def rewrite(page: str, found: Findings, earlier: Findings | None = None) -> str:
    """``page`` with the figures of ``found``, and what changed since ``earlier``. Raises ValueError without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has lost one of its marks: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{sections(found, earlier)}\n\n{END}{after}"


if __name__ == "__main__":
    found, *earlier = (Findings.read(Path(file)) for file in sys.argv[1:])
    PAGE.write_text(rewrite(PAGE.read_text(), found, *earlier))
