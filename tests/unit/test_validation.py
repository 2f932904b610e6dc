"""Wrong values are told of without Python's names of types."""

from __future__ import annotations

import msgspec
import pytest

from clawmail.base.validation import in_words


class Thing(msgspec.Struct):
    """One field of each kind."""

    number: int | None = None
    share: float = 0.0
    names: list[str] | str = ""
    on: bool = False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"number": "2"}, "Expected a whole number or null, got a string - at $.number"),
        ({"share": []}, "Expected a number, got a list - at $.share"),
        ({"names": 1}, "Expected a string or a list, got a whole number - at $.names"),
        ({"names": [{}]}, "Expected a string, got an object - at $.names[0]"),
        ({"on": None}, "Expected true or false, got null - at $.on"),
        ([], "Expected an object, got a list"),
    ],
)
def test_types_in_words(value: object, said: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Thing)
    assert in_words(str(refused.value)) == said
