"""A PostgreSQL with a synchronous standby, of Debian's packages: one dies in mid-load, the other takes its place."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

BINARIES = Path("/usr/lib/postgresql/15/bin")
#: seconds for one of the servers' commands.
PATIENCE_SECONDS = 60.0
WITHOUT_TCP = "-c listen_addresses='' -c unix_socket_directories={place} -c max_connections=80 -c hot_standby=on"


class Pair:
    """Two clusters in one directory; ``primary`` is the place of the one that writes."""

    def __init__(self, directory: Path) -> None:
        # PostgreSQL refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else None
        self._directory = directory
        self.primary, self._standby = directory / "a", directory / "b"
        for place in (self.primary, self._standby):
            place.mkdir()
            if self._user is not None:
                os.chown(place, pwd.getpwnam(self._user).pw_uid, -1)

    @property
    def socket(self) -> Path:
        """Where the primary listens."""
        return self.primary / ".s.PGSQL.5432"

    @property
    def url(self) -> str:
        """How the primary is reached."""
        return f"postgresql://postgres@/postgres?host={self.primary}"

    async def start(self) -> None:
        """Makes the primary and its standby."""
        await self._run(
            "initdb", "--pgdata", f"{self.primary}/data", "--username=postgres", "--auth=trust", "--encoding=UTF8"
        )
        await self._launch(self.primary)
        await self._follow()

    async def stop(self) -> None:
        """Ends both."""
        for place in (self._standby, self.primary):
            if (place / "data" / "postmaster.pid").exists():
                await self._run("pg_ctl", "stop", "--pgdata", f"{place}/data", "--mode", "immediate")

    async def fail_over(self) -> None:
        """Kills the primary and promotes the standby; the caller's clients have to be led there."""
        pid = int((self.primary / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        self.primary, self._standby = self._standby, self.primary
        await self._tell("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        await self._run("pg_ctl", "promote", "--wait", "--pgdata", f"{self.primary}/data")

    async def replace_the_dead(self) -> None:
        """Makes the server that was killed the new standby, from a fresh copy."""
        shutil.rmtree(self._standby / "data")
        # Its lock names a process that is gone, or that may be anybody's by now.
        for left in self._standby.glob(".s.PGSQL.*"):
            left.unlink()
        await self._follow()

    async def _follow(self) -> None:
        """Copies the primary, starts the copy as its standby, and lets no commit return before both have it."""
        await self._run(
            "pg_basebackup", "--host", str(self.primary), "--username=postgres", "--pgdata", f"{self._standby}/data",
            "--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream",
        )  # fmt: skip
        await self._launch(self._standby)
        await self._tell("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self._tell("SELECT sync_state FROM pg_stat_replication") != "sync":
                await asyncio.sleep(0.05)

    async def _launch(self, place: Path) -> None:
        options = WITHOUT_TCP.format(place=place)
        await self._run(
            "pg_ctl", "start", "--wait", "--pgdata", f"{place}/data", "--options", options, "--log", f"{place}/log"
        )

    async def _tell(self, *statements: str) -> Any:
        """Runs statements on the primary; what the last one answers."""
        connection = await asyncpg.connect(self.url, timeout=20)
        try:
            for statement in statements:
                answer = await connection.fetchval(statement)
            return answer
        finally:
            await connection.close(timeout=5)

    async def _run(self, command: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            BINARIES / command,
            *arguments,
            user=self._user,
            cwd="/",
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            if await process.wait() != 0:
                said = "".join(
                    f"\n{log.parent.name}: {log.read_text()[-1000:]}" for log in self._directory.glob("*/log")
                )
                raise RuntimeError(f"{command} {arguments} failed with {process.returncode}{said}")


@asynccontextmanager
async def pair_in(directory: Path) -> AsyncIterator[Pair]:
    """A running pair."""
    pair = Pair(directory)
    await pair.start()
    try:
        yield pair
    finally:
        await pair.stop()
