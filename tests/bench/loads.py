"""Load from processes of their own: its cost is neither the server's nor the benchmark's.

``http_load`` and ``smtp_load`` read a job as JSON on standard input and print a result as JSON; here are the two jobs
and results as values. ``smtp-source`` comes with Debian's postfix.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.bench import mail

#: seconds after which a load that does not end is a failure.
LOAD_SECONDS = 900.0
#: a flood stands for other machines: its processes take only what the server and the others leave (see nice(1)).
ELSEWHERE = 19
SMTP_SOURCE = ("smtp-source", "Debian: apt-get install postfix")


@dataclass(frozen=True, slots=True)
class HttpJob:
    """Requests over kept connections, one after the other on each."""

    port: int
    key: str
    #: method, path, body; taken in turns.
    requests: Sequence[tuple[str, str, str]]
    clients: int = 16
    #: requests in all; 0: as many as fit into ``seconds``.
    total: int = 0
    seconds: float = 60.0
    #: requests a second of all clients together; 0: as fast as answers come.
    rate: float = 0.0
    #: loopback addresses to call from, in turns.
    sources: Sequence[str] = ("127.0.0.1",)


@dataclass(frozen=True, slots=True)
class SmtpJob:
    """One message again and again, its arrivals evenly spaced."""

    port: int
    file: str
    #: in turns.
    recipients: Sequence[str]
    #: messages a second; 0: as fast as ``sessions`` go.
    rate: float
    total: int
    sessions: int = 10
    #: loopback addresses to come from, in turns.
    sources: Sequence[str] = ("127.0.0.1",)
    sender: str = mail.SENDER


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load saw. Latencies are in milliseconds."""

    count: int
    seconds: float
    p50: float
    p99: float
    #: the clock (``time.time``) when the first one left.
    began: float
    #: other answers than the expected ones, by their status.
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Successes a second."""
        return self.count / self.seconds


async def http(job: HttpJob, *, nice: int = 0) -> LoadResult:
    """Runs the job to its end."""
    return await _run("tests.bench.http_load", job, nice)


async def smtp(job: SmtpJob, *, nice: int = 0) -> LoadResult:
    """Runs the job to its end."""
    return await _run("tests.bench.smtp_load", job, nice)


async def _run(module: str, job: Any, nice: int) -> LoadResult:
    pipe = asyncio.subprocess.PIPE
    command = ("nice", "-n", str(nice), sys.executable, "-m", module)
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            said, _ = await process.communicate(msgspec.json.encode(asdict(job)))
    except (asyncio.CancelledError, TimeoutError):
        await end(process)
        raise
    if process.returncode != 0:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return msgspec.json.decode(said, type=LoadResult)


async def smtp_source(
    port: int,
    count: int,
    file: Path,
    *,
    sessions: int = 10,
    kept: bool = False,
    recipient: str = mail.RECIPIENT,
    nice: int = 0,
) -> float:
    """``count`` messages by ``smtp-source``; the seconds it took until the last 250."""
    command = ["nice", "-n", str(nice), "smtp-source", "-s", str(sessions), "-m", str(count), "-F", str(file)]
    command += ["-f", mail.SENDER, "-t", recipient, *(["-d"] if kept else []), f"inet:127.0.0.1:{port}"]
    began = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            _, said = await process.communicate()
    except (asyncio.CancelledError, TimeoutError):
        await end(process)
        raise
    if process.returncode != 0:
        raise RuntimeError(f"smtp-source: {said.decode(errors='replace')[:500]}")
    return time.perf_counter() - began


async def end(process: asyncio.subprocess.Process) -> None:
    """Ends a process of ours, unless it has ended by itself, and waits until it is gone."""
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it ends in this very moment
            process.terminate()
    await process.wait()
