"""The embedded PostgreSQL's own log: what is grave in it is told in ours, and it stays small."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from clawmail.store import postgres_log
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.postgres_log import ServerLog
from tests.support.postgres import WITHOUT_DISK

PREFIX = "2026-11-20 12:00:00.123 UTC [4711] "


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    """That runs, in a directory of its own."""
    tmp_path.chmod(0o755)
    running = EmbeddedPostgres(tmp_path, settings=WITHOUT_DISK)
    await running.start()
    yield running
    await running.stop()


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what has to come."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def warn(url: str, text: str) -> None:
    """Has the server write a warning, behind an error that is the statement's own affair."""
    connection = await asyncpg.connect(url)
    connection.add_log_listener(lambda *_: None)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.execute("SELECT 1/0")
    await connection.execute(f"DO $$ BEGIN RAISE WARNING '{text}'; END $$")
    await connection.close()


async def test_grave_lines_are_told(server: EmbeddedPostgres) -> None:
    with capture_logs() as lines:
        await warn(server.url, "attention")
        connection = await asyncpg.connect(server.url)
        os.kill(connection.get_server_pid(), signal.SIGKILL)
        await until(lambda: any("terminated by signal 9" in line.get("text", "") for line in lines))
        connection.terminate()
    told = [line for line in lines if line["event"] == "embedded PostgreSQL"]
    assert [told[0][fact] for fact in ("log_level", "level", "text")] == ["warning", "warning", "attention"]
    assert not any("division by zero" in line["text"] for line in told)


async def test_the_file_stays_small(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_log, "MAX_BYTES", 4_000)
    before = server.log_path.with_name("postgres.log.1")
    await warn(server.url, "x" * 5_000)
    await until(before.exists)
    await until(lambda: server.log_path.stat().st_size < 4_000)
    assert before.stat().st_size == 4_000
    assert stat.S_IMODE(before.stat().st_mode) == 0o600
    assert before.owner() == server.log_path.owner()
    await warn(server.url, "after")
    await until(lambda: b"WARNING:  after" in server.log_path.read_bytes())
    assert server.log_path.read_bytes()[:1] != b"\0"  # it goes on at the beginning, not behind a hole


def test_only_what_is_new_and_whole_is_told(tmp_path: Path) -> None:
    path = tmp_path / "postgres.log"
    path.write_text(f"{PREFIX}FATAL:  of yesterday\n")
    log = ServerLog(path)
    log.begin()
    assert not log.has_news
    with path.open("a") as file, capture_logs() as lines:
        file.write(f"{PREFIX}LOG:  checkpoint starting: time\n{PREFIX}LOG:  could not write\n{PREFIX}PANIC:  no room l")
        file.flush()
        log.look()
        assert [line["text"] for line in lines] == ["could not write"]
        file.write("eft\n")
        file.flush()
        log.look()
        assert [(line["log_level"], line["text"]) for line in lines[1:]] == [("error", "no room left")]
        assert not log.has_news
        file.write(f"{PREFIX}WARNING:  again\n" * 25)
        file.flush()
        log.look()
        assert len(lines) == 2 + 20 + 1
        assert lines[-1]["lines"] == 5
        file.truncate(0)
        file.write(f"{PREFIX}WARNING:  anew\n")
        file.flush()
        log.look()
        assert lines[-1]["text"] == "anew"
