"""One self-signed certificate for all conversations."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def certificate_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that all doors share."""
    return tmp_path_factory.mktemp("door")
