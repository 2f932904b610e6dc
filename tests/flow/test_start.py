"""Starting: two at once migrate once, what was interrupted is resumed, and other releases are met in words."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from clawmail.base.settings import Settings
from clawmail.cli.process import LISTENING
from clawmail.store.migrate import MigrationError, migrate
from clawmail.store.queries import sql_folder
from tests.support.daemon import start_daemon
from tests.support.postgres import TestServer
from tests.support.schemas import SCHEMAS, empty_database

NAMES = [name for name, _ in sql_folder("migrations")]


def settings(url: str) -> dict[str, dict[str, object]]:
    """What a node needs to start."""
    return {
        "server": {"app_domain": "start.example", "secret_key": "5a" * 32},
        "database": {"url": url},
        "smtp": {"listen": ["127.0.0.1:0"]},
        "api": {"listen": ["127.0.0.1:0"]},
    }


async def applied(url: str) -> list[str]:
    """The migrations that the database says it has."""
    connection = await asyncpg.connect(url)
    try:
        return [row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations ORDER BY name")]
    finally:
        await connection.close()


async def test_two_nodes_that_start_at_once_migrate_once(postgres: TestServer, tmp_path: Path) -> None:
    url = await empty_database(postgres)
    nodes = await asyncio.gather(*(start_daemon(settings(url), tmp_path / str(n)) for n in range(2)))
    migrated = [line["migration"] for node in nodes for line in node.log if line.get("event") == "migrated"]
    assert sorted(migrated) == NAMES == await applied(url)
    assert await asyncio.gather(*(node.stop() for node in nodes)) == [0, 0]
    await postgres.drop(url)


async def test_a_process_opens_as_many_connections_as_are_counted_for_it(database_url: str, tmp_path: Path) -> None:
    node = await start_daemon(settings(database_url), tmp_path)
    looker = await asyncpg.connect(database_url)
    listens = (
        "SELECT count(DISTINCT query) FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^LISTEN'"
    )
    async with asyncio.timeout(30):
        while await looker.fetchval(listens) < LISTENING:
            await asyncio.sleep(0.02)
    assert (
        await looker.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        == LISTENING + Settings().database.pool_size
    )
    await looker.close()
    assert await node.stop() == 0


async def test_a_migration_whose_process_is_killed_is_resumed(postgres: TestServer, tmp_path: Path) -> None:
    url = await empty_database(postgres)
    await migrate(url, only=NAMES[:1])
    blocker = await asyncpg.connect(url)
    config = tmp_path / "config.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    async with blocker.transaction():
        # The third one refers to domains, so it has to wait in the middle of its transaction.
        await blocker.execute("LOCK TABLE domains, deliveries IN ACCESS EXCLUSIVE MODE")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "clawmail", "migrate", "--config", str(config)
        )
        async with asyncio.timeout(30):
            while not await blocker.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'relation'"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            ):
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    await blocker.close()
    async with asyncio.timeout(30):
        await migrate(url)
    assert await applied(url) == NAMES
    await postgres.drop(url)


async def test_an_older_program_leaves_a_newer_schema_alone(database_url: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO schema_migrations (name, sha256) VALUES ('9999_expanded', 'x')")
    await connection.execute("ALTER TABLE emails ADD COLUMN importance integer; CREATE TABLE novelties (id integer)")
    await connection.close()
    assert await migrate(database_url) == []
    node = await start_daemon(settings(database_url), tmp_path / "node")
    async with node.request("GET", "/health") as response:
        assert response.status == 200
    assert await node.stop() == 0


async def test_a_restore_of_a_newer_release_is_refused_in_words(database_url: str) -> None:
    with pytest.raises(MigrationError, match=r"newer release.*9999_expanded"):
        await migrate(database_url, only=[*NAMES, "9999_expanded"])


def test_there_is_a_fixture_of_a_released_schema() -> None:
    assert [path.name for path in SCHEMAS.iterdir() if path.is_dir()]


async def test_sighup_reads_the_level_of_the_log_again(postgres: TestServer, tmp_path: Path) -> None:
    url = await empty_database(postgres)
    node = await start_daemon({**settings(url), "server": {**settings(url)["server"], "workers": 2}}, tmp_path)
    await node.logged("worker ready")
    good = node.config.read_text()

    def hangup(text: str) -> None:
        node.config.write_text(text)
        node.process.send_signal(signal.SIGHUP)

    async def told(event: str, times: int) -> None:
        async with asyncio.timeout(20):
            while sum(line.get("event") == event for line in node.log) < times:
                await asyncio.sleep(0.02)

    wrong = "the configuration is wrong; the log stays as it is"
    hangup(good)
    await told("reloaded", 2)  # the process that was started, and its worker
    hangup(good + "\n[limts]\nenabled = true\n")
    await told(wrong, 2)
    assert "limits" in next(line for line in node.log if line.get("event") == wrong)["problems"][0]
    hangup(good.replace("[server]", '[server]\nlog_level = "warning"'))
    await told("reloaded", 4)
    assert await node.stop() == 0
    assert not [line for line in node.log if line.get("event") in ("stopping", "stopped")]
    await postgres.drop(url)
