"""How commands read and show values: sizes, moments, and the question before something goes for good.

A moment is ISO 8601 in UTC and a size a number of bytes in JSON; a table shows sizes in the unit that fits.
"""

from __future__ import annotations

import math
import re
import sys
from datetime import UTC, datetime
from typing import Any

import click

#: suffixes of a size: powers of 1024 and of 1000, and the bare letter, which means the former as everywhere in storage.
_UNITS = {
    "": 1, "b": 1,
    "k": 1 << 10, "kib": 1 << 10, "kb": 10**3,
    "m": 1 << 20, "mib": 1 << 20, "mb": 10**6,
    "g": 1 << 30, "gib": 1 << 30, "gb": 10**9,
    "t": 1 << 40, "tib": 1 << 40, "tb": 10**12,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})")
#: most that a size can be: PostgreSQL keeps it in a bigint.
MAX_BYTES = 2**63 - 1


class Size(click.ParamType[int]):
    """A number of bytes, with a unit if one likes: 500MiB, 1.5G, 1000000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes of a text like 500MiB."""
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip().lower())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a size; write 500MiB, 2GiB or a number of bytes", param, ctx)
        size = int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]
        if size > MAX_BYTES:
            self.fail(f"{value!r} is more than can be counted", param, ctx)
        return size


#: what an age that is to follow the settings again is read as.
AS_SETTINGS = -1.0


class Age(click.ParamType[float]):
    """A number of days or hours, fractions allowed, 0 for ever; or ``default``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or ``AS_SETTINGS``."""
        if value == "default":
            return AS_SETTINGS
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"{value!r} is not a number of 0 or more, nor default", param, ctx)
        return number


def size_text(size: int) -> str:
    """A number of bytes in the largest unit that leaves it at one or more: 1.5 MiB."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number with its noun, or nouns: 1 email, 2,000 emails."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def moment(value: datetime | None) -> str | None:
    """A time as scripts and people read it: ISO 8601, UTC, whole seconds."""
    return None if value is None else value.astimezone(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z")


def ask_first(question: str, *, yes: bool) -> None:
    """Asks at a terminal before something goes for good; ends the command unless the answer is yes.

    ``yes`` answers beforehand. A script, which has no terminal, is taken at its word.
    """
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True)
