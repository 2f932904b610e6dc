"""Programs that run beside the benchmark until the end of a block, and how it is known that they are there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

START_SECONDS = 20.0
POLL_SECONDS = 0.05
Ready = Callable[[], Awaitable[bool]]


@asynccontextmanager
async def running(command: Sequence[str], ready: Ready) -> AsyncIterator[int]:
    """A silent server; its process id, once it is ``ready``. Raises RuntimeError when it ends before."""
    silent = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=silent, stderr=silent)
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await ready():
                if process.returncode is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
                await asyncio.sleep(POLL_SECONDS)
        yield process.pid
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            process.kill()  # a milter that is asked takes five seconds to go, and none of them has anything to save
        await process.wait()


def greets(port: int) -> Ready:
    """Whether a server on loopback says its greeting."""

    async def said() -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        line = await reader.readline()
        writer.close()
        return bool(line)

    return said


def listens(socket: Path) -> Ready:
    """Whether somebody is at a socket."""

    async def there() -> bool:
        try:
            _reader, writer = await asyncio.open_unix_connection(socket)
        except OSError:
            return False
        writer.close()
        return True

    return there
