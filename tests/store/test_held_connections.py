"""Who holds a connection does not queue for the loop: others wait for it."""

from __future__ import annotations

import pytest

from clawmail.base.tenant import current_tenant
from clawmail.store.db import Database


async def test_work_with_a_connection_belongs_to_the_house_and_what_follows_to_its_tenant(db: Database) -> None:
    current_tenant.set("crowd")
    async with db.connection():
        assert current_tenant.get() is None
    assert current_tenant.get() == "crowd"
    with pytest.raises(ZeroDivisionError):
        async with db.transaction():
            raise ZeroDivisionError
    assert current_tenant.get() == "crowd"
