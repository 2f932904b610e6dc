"""The embedded PostgreSQL: a server of our own under ``data_dir``, for whoever has none.

The binaries come in a wheel. One process at a time owns the server: it holds a file lock, keeps the server as its
child, and starts it again when it dies. Another process of ours (a command at the shell beside a running daemon) finds
the lock taken and simply connects. A lock that is free beside a server that still runs means its owner was killed: the
orphan is told to stop, and a fresh server takes over the same data.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from clawmail.base.log import logger
from clawmail.store.postgres_log import ServerLog
from clawmail.store.postgres_process import (
    EmbeddedError,
    account,
    binaries,
    die_with_parent,
    is_postgres,
    let_through,
    make_private,
    open_private,
    socket_directory,
)

__all__ = ["EmbeddedError", "EmbeddedPostgres"]

#: seconds that starting or stopping may take before it is a failure.
START_SECONDS = 60.0
STOP_SECONDS = 20.0
#: seconds between two looks at a server that starts or stops.
POLL_SECONDS = 0.02
#: seconds between two looks at whether the server lives.
WATCH_SECONDS = 0.25
#: name of the socket in its directory; it has the number of the port, which is the default one.
SOCKET_NAME = ".s.PGSQL.5432"
#: gaps before a server that died is started again.
RESTART_GAPS_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)

#: a new file of PostgreSQL's log is filled with zeros and flushed before it is written to, and commits wait for that:
#: some 12 ms with the 16 MiB that are usual, of which mail of 24 MiB fills one and a half.
WAL_SEGMENT_MIB = 4
#: small, because the host is; durable, because 250 means kept.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    # Who has to wait for room in these waits for the disk, with pages locked that others want to read.
    "wal_buffers": "6MB",
    # What is written goes to the disk then, and not all at once at the end of a checkpoint, before everybody's commits.
    "backend_flush_after": "512kB",
    "max_connections": "60",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    "autovacuum_naptime": "30s",
    "jit": "off",
    "log_min_messages": "warning",
    "max_worker_processes": "4",
}

log = logger("store")


class EmbeddedPostgres:
    """The server in ``data_dir/postgres``. ``url`` is valid after ``start``."""

    def __init__(self, data_dir: Path, *, settings: Mapping[str, str] | None = None) -> None:
        """``settings`` are put over ``SERVER_SETTINGS`` (tests that need no durability switch it off)."""
        self._settings = {**SERVER_SETTINGS, **(settings or {})}
        self.directory = data_dir.resolve() / "postgres"
        self.log_path = data_dir.resolve() / "postgres.log"
        self._server_log = ServerLog(self.log_path)
        self._lock_path = data_dir.resolve() / "postgres.lock"
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._account = account(data_dir.resolve())
        self.socket_directory = socket_directory(self.directory)

    @property
    def _socket(self) -> Path:
        return self.socket_directory / SOCKET_NAME

    @property
    def url(self) -> str:
        """Where to connect; asyncpg and libpq read it alike."""
        return f"postgresql://postgres@/postgres?host={self.socket_directory}"

    async def start(self) -> None:
        """Starts the server, or finds the one that another process of ours keeps. Raises EmbeddedError."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        if not await asyncio.to_thread(self._become_owner):
            return
        await asyncio.to_thread(self._initialise)
        await asyncio.to_thread(self._launch)
        self._keeper = asyncio.create_task(self._keep(), name="keep the embedded PostgreSQL")

    async def stop(self) -> None:
        """Stops the server if this process owns it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        if self._process is not None:
            await asyncio.to_thread(self._halt, self._process)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _become_owner(self) -> bool:
        """Takes the lock; False if another process has it and its server answers."""
        give_up = time.monotonic() + START_SECONDS
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._give_to_account(descriptor)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._answers():
                    os.close(descriptor)
                    return False
                if time.monotonic() > give_up:
                    os.close(descriptor)
                    raise EmbeddedError(
                        f"another process holds {self._lock_path}, but its server does not answer; see {self.log_path}"
                    ) from None
                time.sleep(POLL_SECONDS)
            else:
                self._lock = descriptor
                return True

    def _initialise(self) -> None:
        """Stops an orphan, makes the cluster on first start, refuses one of another version."""
        self._stop_orphan()
        version = self.directory / "PG_VERSION"
        ours = binaries().parent.name.removeprefix("pginstall")
        if version.exists():
            found = version.read_text().strip()
            if found != ours:
                raise EmbeddedError(
                    f"{self.directory} was made by PostgreSQL {found}, this is {ours}: export the mail with the release"
                    " that made it (clawmail export), or point database.url at a server of that version"
                )
            return
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self._give_to_account(self.directory)
        self._let_account_through()
        arguments = ["initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--no-sync"]
        done = self._run([*arguments, f"--wal-segsize={WAL_SEGMENT_MIB}", "-D", str(self.directory)])
        if done.returncode != 0:
            raise EmbeddedError(f"initdb failed in {self.directory}: {done.stderr.decode(errors='replace')[-500:]}")
        os.sync()

    def _stop_orphan(self) -> None:
        """A server that outlived its owner is stopped; the mark of a dead or zombie one is taken away."""
        mark = self.directory / "postmaster.pid"
        try:
            pid = int(mark.read_text().splitlines()[0])
        except (FileNotFoundError, ValueError, IndexError):
            return
        if is_postgres(pid):
            log.warning("stopping an orphaned PostgreSQL", pid=pid)
            give_up = time.monotonic() + STOP_SECONDS
            os.kill(pid, signal.SIGINT)
            while is_postgres(pid):
                if time.monotonic() > give_up:
                    os.kill(pid, signal.SIGQUIT)
                    give_up += STOP_SECONDS
                time.sleep(POLL_SECONDS)
        mark.unlink(missing_ok=True)

    def _launch(self) -> None:
        """Starts the server as our child and waits until it answers."""
        make_private(self.socket_directory, self._account)
        self._give_to_account(self.socket_directory)
        self._let_account_through()
        command = [str(binaries() / "postgres"), "-D", str(self.directory), "-k", str(self.socket_directory)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        uid, gid = self._account or (None, None)
        self._server_log.begin()
        # It quotes rows that were refused.
        with open(self.log_path, "ab", opener=open_private) as output:
            self._give_to_account(output.fileno())
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
                cwd=self.directory,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        give_up = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up:
                tail = self.log_path.read_bytes()[-500:].decode(errors="replace")
                raise EmbeddedError(f"the embedded PostgreSQL did not start; {self.log_path} ends with: {tail}")
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        """``pg_isready`` without its process: the last line of postmaster.pid says "ready", and its process lives."""
        try:
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[7].strip() == "ready" and is_postgres(int(lines[0]))
        except (FileNotFoundError, PermissionError, ValueError):
            return False

    async def _keep(self) -> None:
        """Starts the server again whenever it dies."""
        failures = 0
        while self._process is not None:
            await self._read_log()
            if (status := self._process.poll()) is None and self._socket.exists():
                await asyncio.sleep(WATCH_SECONDS)
                continue
            if status is None:  # whoever cleaned the temporary directory left a server that nobody reaches any more
                log.error("the socket of the embedded PostgreSQL was removed; starting it again")
                await asyncio.to_thread(self._halt, self._process)
            else:
                log.error("the embedded PostgreSQL died; starting it again", status=status)
            await asyncio.sleep(RESTART_GAPS_SECONDS[min(failures, len(RESTART_GAPS_SECONDS) - 1)])
            try:
                await asyncio.to_thread(self._stop_orphan)
                await asyncio.to_thread(self._launch)
                failures = 0
            except (EmbeddedError, OSError) as error:
                failures += 1
                log.error("the embedded PostgreSQL does not start", problem=str(error))

    async def _read_log(self) -> None:
        """What the server says is told; that it cannot be read must not be the end of the server."""
        try:
            if self._server_log.has_news:
                await asyncio.to_thread(self._server_log.look)
        except OSError as error:
            log.warning("the log of the embedded PostgreSQL cannot be read", problem=str(error))

    def _halt(self, process: subprocess.Popen[bytes]) -> None:
        """Fast shutdown: clients are cut off, everything is written; by force if that takes too long."""
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        uid, gid = self._account or (None, None)
        return subprocess.run(
            [str(binaries() / command[0]), *command[1:]],
            capture_output=True,
            timeout=START_SECONDS,
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
            cwd=self.directory,
            check=False,
        )

    def _give_to_account(self, place: Path | int) -> None:
        if self._account is not None:
            os.chown(place, *self._account)

    def _let_account_through(self) -> None:
        if self._account is not None:
            uid = self._account[0]
            for place in (self.directory, self.socket_directory, binaries()):
                if opened := let_through(place, uid):
                    # Whoever runs us as root may have closed them on purpose.
                    log.warning("directories opened (o+x) to reach PostgreSQL", uid=uid, opened=[*map(str, opened)])
