"""``docs/contract.md`` is a table that can be checked: every row is there, and every test it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (ROOT / "docs" / "contract.md").read_text("utf-8").splitlines()
    if line.startswith("| A")
]


def named_tests(path: Path) -> set[str]:
    """The names of a file's test functions."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_row_of_the_contract_is_there_once() -> None:
    assert sorted((row for row, _, _ in ROWS), key=lambda row: int(row[1:])) == [f"A{n}" for n in range(1, 49)]


@pytest.mark.parametrize(("row", "what", "held_by"), ROWS, ids=[row for row, *_ in ROWS])
def test_every_test_that_is_named_exists(row: str, what: str, held_by: str) -> None:
    assert what
    named = re.findall(r"`([a-z0-9_/]+\.py)::(test_\w+)`", held_by)
    assert named
    assert len(named) == held_by.count("`") / 2
    for file_name, test in named:
        assert test in named_tests(ROOT / "tests" / file_name), f"{row}: {file_name}::{test}"
