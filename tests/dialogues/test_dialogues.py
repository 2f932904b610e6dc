"""Plays every ``*.txt`` of this folder against a live door, in the clear and inside TLS, on both event loops."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.dialogue import Play, perform, plays

PLAYS = [play for path in sorted(Path(__file__).parent.glob("*.txt")) for play in plays(path)]


@pytest.mark.parametrize("play", PLAYS, ids=[play.name for play in PLAYS])
async def test_dialogue(play: Play, certificate_dir: Path) -> None:
    """The conversation goes as its file says."""
    await perform(play, certificate_dir)


@pytest.mark.parametrize("play", PLAYS, ids=[play.name for play in PLAYS])
async def test_dialogue_on_uvloop(play: Play, certificate_dir: Path) -> None:
    """It does on uvloop as well, whose transports and TLS are not asyncio's."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not made for this platform")
    await asyncio.to_thread(lambda: uvloop.run(perform(play, certificate_dir)))
