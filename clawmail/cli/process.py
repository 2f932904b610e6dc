"""The life of a server process: start, signals, workers, stop.

The first process owns the embedded PostgreSQL, migrates, and serves. With ``server.workers`` above one it starts that
many less one further processes of the same kind, which share its ports (SO_REUSEPORT); they die with it, and one that
dies alone is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clawmail.base import log as logging
from clawmail.base.errors import StoreUnwell
from clawmail.base.log import logger
from clawmail.base.settings import Settings
from clawmail.base.threads import started_threads
from clawmail.config import ConfigError

if TYPE_CHECKING:
    from clawmail.running import App

#: threads for work that must not hold up the loop; most of it waits for the disk, or lets go of the interpreter.
THREADS = min(32, (os.cpu_count() or 1) + 4)
#: environment by which a worker learns where the database of its parent is.
DATABASE_URL = "CLAWMAIL_DATABASE_URL"
#: seconds between two looks at whether workers live, and before one that died is started again.
LOOK_SECONDS = 0.5
#: seconds beyond the grace period after which a worker is killed.
KILL_AFTER_SECONDS = 10.0
PR_SET_PDEATHSIG = 1
#: mallopt(3): pieces of memory from this size on are the kernel's.
M_MMAP_THRESHOLD = -3
LARGE_PIECE_BYTES = 4 * 1024 * 1024
#: how long a thread that computes may keep the interpreter while the event loop waits for it. Python's own 5 ms would
#: be felt in every step of everybody's mail.
SWITCH_SECONDS = 0.001

#: connections of a process that only listen: to deliveries, webhooks, keys, the directory.
LISTENING = 4
#: connections for commands, backups and whoever looks in with psql.
SPARE_CONNECTIONS = 40

log = logger("app")


def run(
    settings: Settings,
    config_path: Path | None,
    *,
    read_again: Callable[[], Settings],
    worker: bool = False,
    on_ready: Callable[[App], Awaitable[None]] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; exits 0 then. ``on_ready`` is awaited once both listeners accept.

    ``read_again`` gives the settings as they stand at a SIGHUP, or raises ConfigError.
    """
    logging.configure(settings.server.log_level, settings.server.log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    _give_memory_back()
    try:
        status = _run_loop(_serve(settings, config_path, read_again, worker=worker, on_ready=on_ready))
    except (OSError, ValueError, StoreUnwell) as error:
        raise click.ClickException(f"cannot start: {error}") from None
    sys.exit(status)


def _give_memory_back() -> None:
    """What is large comes from the kernel, and goes back when it is free.

    Left to itself, glibc takes the largest piece it has seen freed for a usual one, and keeps as much, for each thread.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library has other habits
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_PIECE_BYTES)


def connections_for(settings: Settings) -> int:
    """How many the embedded PostgreSQL has to allow: each process keeps all of its own open, and there are commands."""
    return settings.server.workers * (settings.database.pool_size + LISTENING) + SPARE_CONNECTIONS


def _run_loop(main: Awaitable[int]) -> int:
    async def body() -> int:
        asyncio.get_running_loop().set_default_executor(started_threads(THREADS, "work"))
        return await main

    try:
        from clawmail.base.loop import FairLoop
    except ImportError:  # a platform without it: asyncio's own loop serves as well, more slowly
        return asyncio.run(body())
    with asyncio.Runner(loop_factory=FairLoop) as runner:
        return runner.run(body())


async def _serve(
    settings: Settings,
    config_path: Path | None,
    read_again: Callable[[], Settings],
    *,
    worker: bool,
    on_ready: Callable[[App], Awaitable[None]] | None,
) -> int:
    from clawmail.app import build
    from clawmail.store.embedded import EmbeddedError, EmbeddedPostgres
    from clawmail.store.migrate import MigrationError, migrate

    began = time.monotonic()
    data_dir = Path(settings.server.data_dir)
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        try:
            url = settings.database.url
            if not url:
                embedded = EmbeddedPostgres(data_dir, settings={"max_connections": str(connections_for(settings))})
                stack.push_async_callback(embedded.stop)
                await embedded.start()
                url = embedded.url
            if not worker:
                await migrate(url)
            app = build(settings, url)
            await app.start()
        except (EmbeddedError, MigrationError) as error:
            raise OSError(str(error)) from None
        stack.push_async_callback(app.stop, settings.server.grace_seconds)
        crew = Crew(settings, config_path, url) if not worker and settings.server.workers > 1 else None
        stopping = _stop_signals(lambda: _reload(app, crew, read_again))
        if crew is not None:
            stack.push_async_callback(crew.stop, settings.server.grace_seconds)
            crew.start()
        # What is there by now stays: walking these 80,000 objects again would stop everything for 50 ms now and then.
        gc.collect()
        gc.freeze()
        log.info(
            "worker ready" if worker else "ready",
            smtp=[f"{host}:{port}" for host, port in app.door.addresses],
            api=[f"{host}:{port}" for host, port in app.api.addresses],
            hostname=settings.hostname,
            seconds=round(time.monotonic() - began, 2),
            pid=os.getpid(),
        )
        if on_ready is not None:
            await on_ready(app)
        await stopping.wait()
        log.info("stopping", grace_seconds=settings.server.grace_seconds)
    log.info("stopped")
    return 0


def _reload(app: App, crew: Crew | None, read_again: Callable[[], Settings]) -> None:
    """SIGHUP: certificates, and the level and format of the log as the configuration has them now; workers as well."""
    app.door.reload_certificates()
    try:
        server = read_again().server
    except ConfigError as error:
        log.error("the configuration is wrong; the log stays as it is", problems=error.problems)
    else:
        log.info("reloaded", log_level=server.log_level)
        logging.configure(server.log_level, server.log_format)
    if crew is not None:
        crew.reload()


def _stop_signals(reload: Callable[[], None]) -> asyncio.Event:
    """SIGTERM and SIGINT set the event; a second one ends the process at once. SIGHUP reloads."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stopping


class Crew:
    """The further processes of a server with several workers."""

    def __init__(self, settings: Settings, config_path: Path | None, url: str) -> None:
        self._count = settings.server.workers - 1
        self._command = [sys.executable, "-m", "clawmail", "serve", "--worker"]
        if config_path is not None:
            self._command += ["--config", str(config_path)]
        self._environment = {**os.environ, DATABASE_URL: url}
        self._processes: list[subprocess.Popen[bytes]] = []
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the workers and watches over them."""
        self._processes = [self._launch() for _ in range(self._count)]
        self._keeper = asyncio.create_task(self._keep(), name="watch the workers")

    def reload(self) -> None:
        """Hands SIGHUP on."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGHUP)

    async def stop(self, grace_seconds: float) -> None:
        """Ends the workers: SIGTERM, and SIGKILL for those that outlive the grace period."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds + KILL_AFTER_SECONDS
        while any(process.poll() is None for process in self._processes):
            if time.monotonic() > deadline:
                for process in self._processes:
                    process.kill()
            await asyncio.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, env=self._environment, preexec_fn=_die_with_parent)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for place, process in enumerate(self._processes):
                if process.poll() is not None:
                    log.error("a worker died; starting another", pid=process.pid, status=process.returncode)
                    self._processes[place] = self._launch()


def _die_with_parent() -> None:
    """In the child, before exec: the kernel ends it when its parent ends, so that no port stays held.

    A SIGHUP handed on before it listens for it is nothing to die of.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
