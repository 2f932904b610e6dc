"""Does PostgreSQL answer, and what time is it there?"""

from __future__ import annotations

from datetime import datetime

from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("health")


async def ping(conn: Connection) -> None:
    """One round trip."""
    await conn.fetchval(_sql.ping)


async def moment(conn: Connection) -> datetime:
    """What the database's clock says."""
    found: datetime = await conn.fetchval(_sql.moment)
    return found
