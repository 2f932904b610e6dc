"""The embedded PostgreSQL comes back: killed, orphaned, marked by the dead; and what it cannot open it refuses."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from clawmail.base.secrets import load_keyring
from clawmail.store.embedded import EmbeddedError, EmbeddedPostgres
from clawmail.store.postgres_process import is_postgres, make_private
from tests.support.postgres import WITHOUT_DISK


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A directory in which a server was made; no server runs."""
    directory = tmp_path_factory.mktemp("embedded")
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory, settings=WITHOUT_DISK)
    await server.start()
    connection = await asyncpg.connect(server.url)
    await connection.execute("CREATE TABLE kept (n integer); INSERT INTO kept VALUES (42)")
    await connection.close()
    await server.stop()
    yield directory


def pid_in(directory: Path) -> int:
    """Who the data directory says runs on it."""
    return int((directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])


async def kept(url: str) -> int:
    """What the table holds, once the server answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                connection = await asyncpg.connect(url)
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.05)
                continue
            found: int = await connection.fetchval("SELECT n FROM kept")
            await connection.close()
            return found


async def test_a_killed_server_is_back_by_itself(place: Path) -> None:
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await server.start()
    first = pid_in(place)
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    while is_postgres(first):
        await asyncio.sleep(0.01)
    assert await kept(server.url) == 42
    assert time.monotonic() - began < 30
    assert pid_in(place) != first
    await server.stop()
    assert not (place / "postgres" / "postmaster.pid").exists()


async def test_an_orphan_is_stopped_and_replaced(place: Path) -> None:
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await server.start()
    # Its owner dies without a word: the lock is free, the server goes on.
    assert server._keeper is not None
    assert server._lock is not None
    server._keeper.cancel()
    await asyncio.gather(server._keeper, return_exceptions=True)
    os.close(server._lock)
    orphan = server._process
    assert orphan is not None
    heir = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await heir.start()
    assert await kept(heir.url) == 42
    assert pid_in(place) != orphan.pid
    assert orphan.wait(10) == 0
    await heir.stop()


async def test_the_mark_of_a_zombie_or_of_another_program_blocks_nobody(place: Path) -> None:
    zombie = subprocess.Popen(["true"])  # noqa: ASYNC220  it has to stay unreaped, which asyncio's would not
    while Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        await asyncio.sleep(0.01)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # noqa: ASYNC220
    try:
        for pid in (zombie.pid, other.pid):
            (place / "postgres" / "postmaster.pid").write_text(f"{pid}\n{place}\n\n\n\n\n\nready\n")
            server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
            await server.start()
            assert await kept(server.url) == 42
            await server.stop()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        zombie.wait()


async def test_a_second_process_finds_the_running_server(place: Path) -> None:
    owner, guest = (EmbeddedPostgres(place, settings=WITHOUT_DISK) for _ in range(2))
    await owner.start()
    await guest.start()
    assert await kept(guest.url) == 42
    await guest.stop()
    assert await kept(owner.url) == 42
    await owner.stop()


async def test_new_files_of_its_log_are_small(place: Path) -> None:
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await server.start()
    connection = await asyncpg.connect(server.url)
    try:
        shown = [await connection.fetchval(f"SHOW {name}") for name in ("wal_segment_size", "backend_flush_after")]
    finally:
        await connection.close()
        await server.stop()
    assert shown == ["4MB", "512kB"]


async def test_the_data_of_another_version_is_refused_in_words(place: Path) -> None:
    version = place / "postgres" / "PG_VERSION"
    before = version.read_text()
    version.write_text("99\n")
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    with pytest.raises(
        EmbeddedError, match=r"was made by PostgreSQL 99, this is \d+: .*clawmail export.*database\.url"
    ):
        await server.start()
    await server.stop()
    version.write_text(before)


async def test_a_server_whose_socket_was_swept_away_is_started_again(place: Path) -> None:
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await server.start()
    first = pid_in(place)
    next(server.socket_directory.glob(".s.PGSQL.*[0-9]")).unlink()
    assert await kept(server.url) == 42
    assert pid_in(place) != first
    await server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another account")
async def test_what_root_does_in_a_services_directory_stays_the_services(tmp_path: Path) -> None:
    service = pwd.getpwnam("nobody")
    os.chown(tmp_path, service.pw_uid, service.pw_gid)
    tmp_path.chmod(0o700)
    for _ in range(2):  # made, and opened again
        server = EmbeddedPostgres(tmp_path, settings=WITHOUT_DISK)
        await server.start()
        load_keyring("", tmp_path)
        connection = await asyncpg.connect(server.url)
        await connection.close()
        await server.stop()
    assert {path.owner() for path in tmp_path.rglob("*")} == {"nobody"}
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to let another account through")
async def test_directories_that_are_opened_for_the_server_are_named(tmp_path: Path) -> None:
    closed, data_dir = tmp_path / "closed", tmp_path / "closed" / "data"
    data_dir.mkdir(parents=True)
    closed.chmod(0o700)
    for told in (1, 0):  # the second time there is nothing to open
        server = EmbeddedPostgres(data_dir, settings=WITHOUT_DISK)
        with capture_logs() as lines:
            await server.start()
        await server.stop()
        opened = [line for line in lines if line["event"].startswith("directories opened (o+x)")]
        assert sum(str(closed) in line["opened"] for line in opened) == told
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701


async def test_a_socket_directory_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    mine, theirs, led_astray = tmp_path / "mine", tmp_path / "theirs", tmp_path / "link"
    mine.mkdir(mode=0o755)
    make_private(mine, None)
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    led_astray.symlink_to(mine)
    with pytest.raises(EmbeddedError, match="made by somebody else"):
        make_private(led_astray, None)
    if os.geteuid() == 0:
        theirs.mkdir()
        os.chown(theirs, 65534, 65534)
        with pytest.raises(EmbeddedError, match="made by somebody else"):
            make_private(theirs, None)


async def test_nobody_else_reads_the_log_or_reaches_the_socket(place: Path) -> None:
    (place / "postgres.log").unlink(missing_ok=True)
    server = EmbeddedPostgres(place, settings=WITHOUT_DISK)
    await server.start()
    socket = server.socket_directory / ".s.PGSQL.5432"
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (server.log_path, server.socket_directory, socket)]
    await server.stop()
    assert modes == [0o600, 0o700, 0o700]
