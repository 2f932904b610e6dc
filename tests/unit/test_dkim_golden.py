"""Every folder of ``tests/golden/dkim`` and ``tests/golden/arc``; see the README there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawmail.protocol.arc import verify_arc
from clawmail.protocol.dkim.verify import verify_dkim
from clawmail.protocol.headers import split_message
from tests.support.zones import ScriptedResolver

GOLDEN = Path(__file__).parent.parent / "golden"


def folders(kind: str) -> list[str]:
    return sorted(path.parent.name for path in (GOLDEN / kind).glob("*/expected.json"))


@pytest.mark.parametrize("name", folders("dkim"))
async def test_dkim(name: str) -> None:
    folder = GOLDEN / "dkim" / name
    expected = json.loads((folder / "expected.json").read_text())
    resolver = ScriptedResolver(json.loads((folder / "zone.json").read_text()))
    message = split_message((folder / "message.eml").read_bytes())
    results = await verify_dkim(message, resolver, now=expected["now"])
    found = [
        {key: getattr(result, key) for key in wanted}
        for result, wanted in zip(results, expected["result"], strict=True)
    ]
    assert found == expected["result"], ((folder / "odd.txt").read_text(), results)


@pytest.mark.parametrize("name", folders("arc"))
async def test_arc(name: str) -> None:
    folder = GOLDEN / "arc" / name
    expected = json.loads((folder / "expected.json").read_text())
    resolver = ScriptedResolver(json.loads((folder / "zone.json").read_text()))
    message = split_message((folder / "message.eml").read_bytes())
    result = await verify_arc(message, resolver, now=expected["now"])
    found = {key: getattr(result, key) for key in expected["result"]}
    found["sealers"] = list(result.sealers)
    assert {key: found[key] for key in expected["result"]} == expected["result"], result


def test_the_goldens_are_there() -> None:
    assert len(folders("dkim")) >= 40 and len(folders("arc")) >= 15
