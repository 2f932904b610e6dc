"""A chart for the README: ``python -m tests.bench.chart FINDINGS.json CHART.svg``.

Bars for the rates that matter most, ours beside the peers', written as SVG by hand. Colours come from a style sheet
inside the picture, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from tests.bench.figures import OURS, Figure, Findings

#: what is drawn: group, name, title.
PANELS = (
    ("inbound", "new connections", "In, a connection for each message (messages/s)"),
    ("inbound", "kept connections", "In, kept connections (messages/s)"),
    ("outbound", "to one destination", "Out, to one destination (messages/s)"),
    ("outbound", "to 500 destinations", "Out, to 500 destinations (messages/s)"),
)
READS = ("reads", "first page, inbox of", "Listing 20 emails, 16 clients (requests/s)")

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 200, 70
BAR, GAP, TITLE, MARGIN = 16, 6, 30, 16
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .value { font-variant-numeric: tabular-nums }
.ours { fill: #1a7f37 } .peer { fill: #8c959f }
.range { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .ours { fill: #3fb950 } .peer { fill: #6e7681 } .range { stroke: #e6edf3 } }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a panel."""

    label: str
    figure: Figure

    @property
    def ours(self) -> bool:
        """Whether it is Clawmail's."""
        return self.figure.who.startswith(OURS)


def panels(found: Findings) -> list[tuple[str, list[Bar]]]:
    """Titles and bars, those without any left out."""
    wanted = [
        (title, [Bar(each.who, each) for each in found.figures if (each.group, each.name) == (group, name)])
        for group, name, title in PANELS
    ]
    group, start, title = READS
    pages = [
        Bar(each.name.removeprefix("first page, "), each)
        for each in found.figures
        if each.group == group and each.name.startswith(start) and each.unit == "requests/s"
    ]
    return [(title, bars) for title, bars in [*wanted, (title, pages)] if bars]


def draw(found: Findings) -> str:
    """The whole picture."""
    lines: list[str] = []
    top = MARGIN
    for title, bars in panels(found):
        lines.append(_text(MARGIN, top + 14, title, "title"))
        top += TITLE
        most = max(bar.figure.spread.maximum for bar in bars)
        for bar in bars:
            lines += _bar(bar, top, most)
            top += BAR + GAP
        top += MARGIN
    caption = f"{found.machine.get('processor', '')}, {found.machine.get('cores', '')} cores; median, least and most"
    lines.append(_text(MARGIN, top + 8, caption, "value"))
    height = top + 20
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [f'{head} role="img" aria-label="{_spoken(found)}">', f"<style>{STYLE}</style>", *lines, "</svg>", ""]
    )


def _bar(bar: Bar, top: int, most: float) -> Sequence[str]:
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH - 2 * MARGIN
    left = MARGIN + LABEL_WIDTH
    spread = bar.figure.spread
    end, low, high = (left + room * value / most for value in (spread.median, spread.minimum, spread.maximum))
    middle = top + BAR / 2
    kind = "ours" if bar.ours else "peer"
    return (
        _text(MARGIN, top + 13, bar.label, "label"),
        f'<rect class="{kind}" x="{left}" y="{top}" width="{end - left:.1f}" height="{BAR}" rx="2"/>',
        f'<line class="range" x1="{low:.1f}" y1="{middle}" x2="{high:.1f}" y2="{middle}"/>',
        _text(round(high) + 8, top + 13, f"{spread.median:,.0f}", "value"),
    )


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def _spoken(found: Findings) -> str:
    """The picture in words, for those who cannot see it."""
    said = [
        f"{title}: " + ", ".join(f"{bar.label} {bar.figure.spread.median:,.0f}" for bar in bars)
        for title, bars in panels(found)
    ]
    return escape(". ".join(said), quote=True)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(draw(Findings.read(Path(sys.argv[1]))))
