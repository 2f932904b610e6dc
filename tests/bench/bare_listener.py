"""The yardstick: aiosmtpd on uvloop, mail thrown away. ``python -m tests.bench.bare_listener PORT``."""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiosmtpd.smtp import SMTP


class Sink:
    """Takes everything and keeps nothing."""

    async def handle_DATA(self, server: SMTP, session: object, envelope: object) -> str:
        """Says yes."""
        return "250 2.0.0 ok"


async def main(port: int) -> None:
    """Listens until it is killed."""
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: SMTP(Sink(), loop=loop, data_size_limit=1 << 25), "127.0.0.1", port, backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
