"""The directory's memory: strangers choose the names that are looked up, so it is bounded over all domains together."""

from __future__ import annotations

import pytest

from clawmail.core import directory
from clawmail.core.directory import Directory
from clawmail.store.db import Database
from tests.support.tenants import Tenant


async def test_names_of_all_domains_together_are_bounded(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MAX_LOOK_UPS", 5)
    remembering = Directory(db, catch_all_local_part="catchall", quota_bytes=1000, catches_all=False)
    for number in range(23):
        assert await remembering.inbox_for(tenant.domain, f"name{number}") is None
        assert remembering.remembers < 5
    found = await remembering.inbox_for(tenant.domain, tenant.inbox.local_part)
    assert found is not None and found.id == tenant.inbox.id
