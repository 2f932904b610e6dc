"""What msgspec says of a wrong value, in words for whoever wrote it, who need not know Python."""

from __future__ import annotations

import re

_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "null": "null",
    "object": "an object",
    "str": "a string",
}
# Types stand between grave accents: "Expected `int | null`, got `str`".
_TYPES = re.compile(r"`(\w+(?: \| \w+)*)`")


def in_words(problem: str) -> str:
    """The text of a ValidationError, less its place: "Expected a whole number or null, got a string"."""
    return _TYPES.sub(_named, problem).replace("`", "")


def _named(types: re.Match[str]) -> str:
    return " or ".join(_WORDS.get(name, name) for name in types[1].split(" | "))
