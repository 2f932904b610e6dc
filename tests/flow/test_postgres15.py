"""The oldest PostgreSQL that is promised to work: the walk-through on Debian's version 15, migrations included.

The cluster is made for the test and lives under a temporary directory; a machine without that version skips it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from clawmail.store.migrate import migrate
from clawmail.store.queries import load, sql_folder
from tests.flow.test_walkthrough import walk_through, world_on

BINARIES = Path("/usr/lib/postgresql/15/bin")
#: no TCP: clients come over the socket in the directory.
OPTIONS = "-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
#: seconds for one of the server's commands.
PATIENCE_SECONDS = 60


def _run(command: str, *arguments: str, user: str | None) -> None:
    done = subprocess.run(
        [BINARIES / command, *arguments],
        user=user,
        cwd="/",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command} {arguments} failed with {done.returncode}"


@pytest.fixture
def postgres15() -> Iterator[str]:
    """The URL of a fresh PostgreSQL 15."""
    if not (BINARIES / "postgres").exists():
        pytest.skip(f"no PostgreSQL 15 in {BINARIES}: apt-get install postgresql-15")
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.getuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix="clawmail-pg15-"))
    if user is not None:
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
        directory.chmod(0o755)
    data = str(directory / "data")
    try:
        _run("initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", user=user)
        options = OPTIONS.format(directory=directory)
        _run("pg_ctl", "start", "--wait", "--pgdata", data, "--options", options, "--log", f"{data}/log", user=user)
        try:
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            _run("pg_ctl", "stop", "--pgdata", data, "--mode", "immediate", user=user)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_every_call_of_the_reference_on_postgres_15(postgres15: str) -> None:
    await migrate(postgres15)
    connection = await asyncpg.connect(postgres15)
    try:
        assert connection.get_server_version().major == 15
        for file_name, _ in sql_folder("queries"):
            for statement in load(file_name).statements.values():
                await connection.prepare(statement)
    finally:
        await connection.close()
    async with world_on(postgres15) as world:
        await walk_through(world)
