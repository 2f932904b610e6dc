"""The secret key that a restore puts in place: for the owner of the data directory, and for nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from clawmail.base.settings import Server, Settings
from clawmail.cli.backup import _put_secret

NOBODY = 65534


@pytest.mark.parametrize("there_already", [False, True])
def test_a_restored_key_belongs_to_whoever_owns_the_directory(tmp_path: Path, there_already: bool) -> None:
    owner = NOBODY if os.geteuid() == 0 else os.geteuid()
    if os.geteuid() == 0:
        os.chown(tmp_path, owner, owner)
    if there_already:
        (tmp_path / "secret.key").write_bytes(b"ab" * 32)
    settings = msgspec.structs.replace(Settings(), server=Server(data_dir=str(tmp_path)))
    _put_secret(settings, b"cd" * 32)
    written = tmp_path / ("secret.key.restored" if there_already else "secret.key")
    assert written.read_bytes() == b"cd" * 32
    assert (written.stat().st_uid, written.stat().st_mode & 0o777) == (owner, 0o600)
