"""The chart and the tables that are made of a benchmark's findings."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench import chart, compare, report
from tests.bench.figures import Figure, Findings, Note, at_least, at_most, findings, one, table
from tests.bench.machine import Spread

FOUND = findings(
    {"processor": "Z80 <fast>", "cores": "2"},
    [
        Figure(
            "inbound", "new connections", "messages/s", Spread(900, 800, 1000), "clawmail, 1 process", at_least(1000)
        ),
        Figure("inbound", "new connections", "messages/s", one(600), "Postfix, no checks"),
        Figure("reads", "first page, inbox of 1,000", "requests/s", one(2000), goal=at_least(1500)),
        Figure("footprint", "idle process", "MiB", one(55.25), goal=at_most(90), memory_mib=80.4),
        Note("inbound", "haraka is missing (npm install -g Haraka)"),
    ],
)


def test_goals_are_judged_by_the_median() -> None:
    assert [figure.verdict for figure in FOUND.figures] == ["missed", "", "met", "met"]


def test_findings_come_back_from_their_file(tmp_path: Path) -> None:
    FOUND.write(tmp_path / "found.json")
    assert Findings.read(tmp_path / "found.json") == FOUND


def test_the_printed_table_has_every_figure_and_what_is_missing() -> None:
    printed = table([*FOUND.figures, *FOUND.notes])
    assert "900 (800–1,000)" in printed
    assert "≥ 1,000" in printed
    assert printed.endswith("inbound: haraka is missing (npm install -g Haraka)")


def test_only_what_is_between_the_marks_is_written_anew() -> None:
    page = f"before\n{report.BEGIN}\nold figures\n{report.END}\nafter\n"
    written = report.rewrite(page, FOUND)
    assert written.startswith("before\n") and written.endswith("\nafter\n")
    assert "old figures" not in written
    assert "| idle process | clawmail | 55.2 | MiB | ≤ 90 | met |  | 80 |" in written
    assert report.rewrite(written, FOUND) == written


def test_the_page_tells_what_changed_since_an_earlier_run() -> None:
    marks = f"{report.BEGIN}\n{report.END}"
    written = report.rewrite(marks, with_rate(1500, cpu=1.0), with_rate(1000, cpu=1.0))
    assert "| requests/s | 1,000 | 1,500 | 1.50 | better |" in written.partition("### Before and after")[2]
    assert "### Before and after" not in report.rewrite(marks, with_rate(1500, cpu=1.0))


def test_a_page_that_lost_its_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="marks"):
        report.rewrite("no marks here", FOUND)


def test_the_chart_is_well_formed_and_says_the_same_in_words() -> None:
    picture = ElementTree.fromstring(chart.draw(FOUND))
    bars = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.get("class") for bar in bars] == ["ours", "peer", "ours"]
    assert float(bars[0].get("width", "0")) > float(bars[1].get("width", "0"))
    assert "Postfix, no checks 600" in str(picture.get("aria-label"))


def with_rate(median: float, *, cpu: float) -> Findings:
    """A run with one rate and its CPU, and a time that does not change."""
    rate = Figure("reads", "first page", "requests/s", one(median), cpu_seconds_per_1000=one(cpu))
    return findings({"commit": f"c{median:.0f}"}, [rate, Figure("reads", "page 1,000", "ms", one(3), goal=at_most(30))])


def test_a_comparison_shows_what_changed_and_whether_for_the_better() -> None:
    shown = compare.page(with_rate(1000, cpu=1.0), with_rate(1500, cpu=1.25), 1.1)
    assert "* before: commit c1000\n* after: commit c1500" in shown
    assert "| reads | first page | clawmail | requests/s | 1,000 | 1,500 | 1.50 | better |" in shown
    assert "| reads | first page | clawmail | CPU s / 1,000 | 1 | 1.25 | 1.25 | worse |" in shown
    assert "page 1,000" not in shown


def test_a_comparison_leaves_out_what_only_one_run_has() -> None:
    assert not list(compare.changes(FOUND, with_rate(1000, cpu=1.0)))
