"""The server's secret key: made once, whoever else starts at the same moment, and readable to its owner alone."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clawmail.base.secrets import load_keyring


def test_processes_that_start_together_make_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def overtaken(draft: Path, path: Path) -> None:
        """Another process gets there just before."""
        path.write_text("ab" * 32 + "\n")
        link(draft, path)

    monkeypatch.setattr(os, "link", overtaken)
    made = load_keyring("", tmp_path)
    assert made.signing_key("x") == load_keyring("ab" * 32, tmp_path).signing_key("x")
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]


def test_a_key_is_whole_as_soon_as_it_can_be_seen(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        keys = list(threads.map(lambda _: load_keyring("", tmp_path).signing_key("x"), range(64)))
    assert len(set(keys)) == 1
    assert stat.S_IMODE((tmp_path / "secret.key").stat().st_mode) == 0o600


def test_a_broken_key_is_said_to_be_broken_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_text("abc\n")
    with pytest.raises(ValueError, match="64 hex digits"):
        load_keyring("", tmp_path)
    assert (tmp_path / "secret.key").read_text() == "abc\n"
