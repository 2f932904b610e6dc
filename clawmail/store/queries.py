"""SQL by name: the files of ``sql/queries`` as attributes.

A file holds statements, each headed by ``-- name: claim_due`` and a line that says what it is for.
``load("deliveries")`` gives an object with one attribute a statement. There is no SQL in Python strings.
"""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_HEADING = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


class Queries:
    """The statements of one file; a misspelt name raises AttributeError at once."""

    def __init__(self, file_name: str, text: str) -> None:
        parts = _HEADING.split(text)
        self.statements: dict[str, str] = {}
        for name, body in zip(parts[1::2], parts[2::2], strict=True):
            if name in self.statements:
                raise ValueError(f"{file_name}: {name} is there twice")
            lines = body.strip().splitlines()
            statement = "\n".join(line for line in lines if not line.lstrip().startswith("--"))
            self.statements[name] = f"/* {file_name}.{name} */ {statement.rstrip().rstrip(';')}"

    def __getattr__(self, name: str) -> str:
        try:
            return self.statements[name]
        except KeyError:
            raise AttributeError(name) from None


def _sql_root() -> Traversable:
    """``sql/`` of a checkout; inside an installed wheel the same files lie in the package."""
    checkout = Path(__file__).parents[2] / "sql"
    return checkout if checkout.is_dir() else files("clawmail").joinpath("sql")


def sql_folder(name: str) -> list[tuple[str, str]]:
    """``(file stem, text)`` of every SQL file in ``sql/<name>``, in order."""
    folder = _sql_root().joinpath(name)
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return [(entry.name.removesuffix(".sql"), entry.read_text()) for entry in sorted(found, key=lambda e: e.name)]


@functools.cache
def load(name: str) -> Queries:
    """The named statements of ``sql/queries/<name>.sql``."""
    return Queries(name, _sql_root().joinpath("queries").joinpath(f"{name}.sql").read_text())
