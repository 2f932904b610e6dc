"""``docs/rfc.md`` is a table that can be checked: known states, modules that exist, a reason for what is not done."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (ROOT / "docs" / "rfc.md").read_text("utf-8").partition("## Disagreements")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| section")
]


def test_every_row_has_a_state_and_a_module_or_a_reason() -> None:
    assert len(ROWS) > 70
    for section, what, state, where, note in ROWS:
        assert section and what
        assert state in ("yes", "partial", "no"), section
        assert (where == "") == (state == "no"), section
        assert note or state == "yes", section


def test_every_module_named_exists() -> None:
    for section, _, _, where, _ in ROWS:
        if where:
            assert (ROOT / "clawmail" / where.strip("`")).is_file(), section
