"""The embedded PostgreSQL allows what all processes keep open, however many they are."""

from __future__ import annotations

import msgspec
import pytest

from clawmail.base.settings import Settings
from clawmail.cli.process import LISTENING, connections_for


@pytest.mark.parametrize(("workers", "pool_size"), [(1, 10), (5, 10), (8, 10), (1, 100)])
def test_every_process_finds_its_connections(workers: int, pool_size: int) -> None:
    settings = msgspec.convert({"server": {"workers": workers}, "database": {"pool_size": pool_size}}, Settings)
    assert connections_for(settings) > workers * (pool_size + LISTENING)
