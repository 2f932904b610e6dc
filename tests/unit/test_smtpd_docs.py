"""docs/smtp.md names every setting of the door, with the default it has."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from clawmail.base.settings import Smtp

PAGE = (Path(__file__).parents[2] / "docs" / "smtp.md").read_text(encoding="utf-8")
#: told elsewhere: where it listens, and what DMARC does.
ELSEWHERE = {"listen", "dmarc_policy"}


@pytest.mark.parametrize("field", msgspec.structs.fields(Smtp), ids=lambda field: field.name)
def test_the_page_knows_every_setting(field: msgspec.structs.FieldInfo) -> None:
    assert field.name in ELSEWHERE or f"`{field.name}" in PAGE, f"docs/smtp.md does not name smtp.{field.name}"


@pytest.mark.parametrize("row", re.findall(r"^\| `(\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE), ids=lambda row: row[0])
def test_defaults_are_as_the_page_says(row: tuple[str, str]) -> None:
    name, told = row
    default = getattr(Smtp(), name)
    forms = {str(default).lower(), str(default).removesuffix(".0"), "none" if default == "" else ""}
    assert told in forms
