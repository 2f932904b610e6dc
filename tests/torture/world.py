"""What faults strike and clients talk to: servers as they are shipped, and what they stand on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.support.daemon import Daemon, start_daemon
from tests.support.smtp_sink import SmtpSink, Taken
from tests.torture.ledger import Ledger
from tests.torture.load import Target
from tests.torture.proxy import Proxy
from tests.torture.standby import Pair

DOMAIN = "kept.example"
LEASE_SECONDS = 3.0
#: longest wait for a server that was tortured to answer again.
RECOVERY_SECONDS = 90.0


class Witness(list[Taken]):
    """The list of a sink's messages, which tells the ledger of each."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def append(self, taken: Taken) -> None:
        """Called by the sink for each message it took, after its 250, or when it hangs up instead."""
        self._ledger.taken(taken.data, answered=taken.answered, peer=taken.peer)


@dataclass
class Node:
    """One server: its process now, and what it is started again with."""

    settings: Mapping[str, Mapping[str, Any]]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    daemon: Daemon | None = None
    #: log lines of every process this server ever was.
    log: list[dict[str, Any]] = field(default_factory=list)

    async def start(self) -> None:
        """Starts it, also after it was killed."""
        self.daemon = await start_daemon(self.settings, self.directory, self.environment)
        self.daemon.log[:0] = self.log
        self.log = self.daemon.log

    def faults_of_ours(self) -> list[str]:
        """Log lines with a traceback: the server met something it has no word for."""
        return [f"{line['event']}: {line['exception'][-4000:]}" for line in self.log if line.get("exception")]

    @property
    def address(self) -> str:
        """Where its outgoing connections come from: no other server's do."""
        return str(self.settings["outbound"]["source_ip"])

    @property
    def pid(self) -> int:
        """The first process of the server."""
        assert self.daemon is not None
        return self.daemon.process.pid

    def workers(self) -> list[int]:
        """Further processes of the server."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        found = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        return [pid for pid in found if b"--worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@dataclass
class World:
    """What faults strike and clients talk to."""

    ledger: Ledger
    nodes: list[Node]
    sink: SmtpSink
    target: Target
    #: connects past every proxy, as superuser.
    database_url: str
    #: where the server keeps its data.
    postgres_directory: Path
    #: mount point of the small disk; None: the machine does not let us mount one.
    disk: Path | None = None
    proxy: Proxy | None = None
    #: sets the wall clock of the last node, in seconds beside the true time; None: no compiler.
    set_clock: Any = None
    #: the PostgreSQL and its standby; None: there is no standby.
    pair: Pair | None = None

    async def well(self, seconds: float = RECOVERY_SECONDS) -> float:
        """Waits until every node answers that it is well; returns how long that took."""
        began = time.monotonic()
        timeout = aiohttp.ClientTimeout(total=5)
        async with asyncio.timeout(seconds), aiohttp.ClientSession(timeout=timeout) as session:
            for api in self.target.api:
                while True:
                    try:
                        async with session.get(api + "/health") as response:
                            if response.status == 200:
                                break
                    except (aiohttp.ClientError, OSError, TimeoutError):
                        pass  # not yet
                    await asyncio.sleep(0.05)
        return time.monotonic() - began

    async def sql(self, statement: str, *arguments: Any) -> list[Any]:
        """Runs a statement as superuser; the test's own eyes."""
        connection = await asyncpg.connect(self.database_url, timeout=20, command_timeout=300)
        try:
            await connection.execute("SET default_transaction_read_only = off")
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close(timeout=5)
