"""What is installed: every package, every SQL file and document, named in pyproject.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]


def test_every_package_is_named() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "clawmail").rglob("__init__.py")} | {
        "clawmail.sql"
    }
    assert set(SETUPTOOLS["packages"]) == found


def test_every_file_beside_the_code_is_shipped() -> None:
    shipped = set()
    for package, patterns in SETUPTOOLS["package-data"].items():
        directory = ROOT / "sql" if package == "clawmail.sql" else ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            shipped |= set(directory.glob(pattern))
    beside = {path for path in (ROOT / "clawmail").rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert beside | set((ROOT / "sql").rglob("*.sql")) <= shipped
