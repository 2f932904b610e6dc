"""The real daemon as a process: ``clawmail serve`` with its own directory, database and ports."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

START_SECONDS = 60.0
STOP_SECONDS = 30.0


@dataclass
class Daemon:
    """A running ``clawmail serve``."""

    process: asyncio.subprocess.Process
    smtp: tuple[str, int]
    api: str
    #: its configuration file, for commands that are to reach the same house.
    config: Path
    log: list[dict[str, Any]] = field(default_factory=list)
    #: the log is thrown away unread from now on: under a benchmark's load nobody asks for it, and reading it costs.
    deaf: bool = False
    _reader: asyncio.Task[None] | None = None

    def request(self, method: str, path: str, *, key: str = "", json_body: Any = None, **options: Any) -> Any:
        """One HTTP request: ``async with daemon.request("GET", "/health") as response``."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers.update(options.pop("headers", {}))
        return aiohttp.request(method, self.api + path, json=json_body, headers=headers, **options)

    async def get(self, path: str, key: str) -> Any:
        """The JSON of a GET that has to succeed."""
        async with self.request("GET", path, key=key) as response:
            body = await response.json()
            assert response.status == 200, (response.status, body)
            return body

    async def post(self, path: str, key: str, body: Any = None, *, status: int = 201) -> Any:
        """The JSON of a POST that has to answer ``status``."""
        async with self.request("POST", path, key=key, json_body=body) as response:
            answer = await response.json() if response.status != 204 else None
            assert response.status == status, (response.status, answer)
            return answer

    async def logged(self, event: str, *, seconds: float = 10.0, **facts: Any) -> dict[str, Any]:
        """Waits for a log line of that event whose facts include ``facts``."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.log:
                    if line.get("event") == event and all(line.get(k) == v for k, v in facts.items()):
                        return line
                await asyncio.sleep(0.01)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Sends ``how`` and waits for the end; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                status = await self.process.wait()
        except TimeoutError:
            self.process.kill()
            status = await self.process.wait()
        if self._reader is not None:
            await self._reader
        return status


async def start_daemon(
    settings: Mapping[str, Mapping[str, Any]], directory: Path, environment: Mapping[str, str] | None = None
) -> Daemon:
    """Starts a daemon with ``settings`` (``{section: {key: value}}``) in ``directory`` and waits until it is ready."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.toml"
    config.write_text(
        "\n".join(
            f"[{section}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
            for section, keys in settings.items()
        )
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "clawmail",
        "serve",
        "--config",
        str(config),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "CLAWMAIL_SERVER_LOG_FORMAT": "json", **(environment or {})},
    )
    daemon = Daemon(process, ("", 0), "", config)
    daemon._reader = asyncio.create_task(_read_log(daemon))
    try:
        ready = await daemon.logged("ready", seconds=START_SECONDS)
    except TimeoutError:
        await daemon.stop(signal.SIGKILL)
        raise RuntimeError(f"the daemon did not start: {daemon.log[-20:]}") from None
    host, _, port = ready["smtp"][0].rpartition(":")
    daemon.smtp = (host, int(port))
    daemon.api = f"http://{ready['api'][0]}"
    return daemon


async def _read_log(daemon: Daemon) -> None:
    stream = daemon.process.stderr
    assert stream is not None
    while line := await stream.readline():
        if daemon.deaf:
            continue
        try:
            daemon.log.append(json.loads(line))
        except ValueError:
            daemon.log.append({"event": line.decode(errors="replace").rstrip()})


@asynccontextmanager
async def running_daemon(settings: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Daemon]:
    """A daemon in a directory of its own, stopped and removed at the end."""
    with tempfile.TemporaryDirectory(prefix="clawmail-flow-") as directory:
        Path(directory).chmod(0o755)
        daemon = await start_daemon(settings, Path(directory))
        try:
            yield daemon
        finally:
            await daemon.stop()
