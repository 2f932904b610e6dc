"""A process with nothing but an outbound worker: ``python -m tests.support.outbound_process URL PORT LEASE ZONE``."""

from __future__ import annotations

import asyncio
import json
import sys

from clawmail.store.db import Database
from tests.support.outgoing import make_settings, make_worker


async def main(url: str, port: int, lease_seconds: float, zone: dict[str, dict[str, list[str]]]) -> None:
    """Works until it is killed."""
    db = Database(url, pool_size=4)
    await db.open()
    settings = make_settings(port, lease_seconds=lease_seconds, command_timeout_seconds=60.0, dot_timeout_seconds=60.0)
    await make_worker(db, zone, settings).start()
    print("at work", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), json.loads(sys.argv[4])))
