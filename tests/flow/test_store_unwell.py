"""The store unwell: read-only or full. Nobody is told a lie, nothing is dropped, and it recovers by itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from clawmail.store.embedded import EmbeddedPostgres
from tests.flow.test_two_daemons import House, furnish
from tests.support.daemon import Daemon, running_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.smtp import Client

DOMAIN = "unwell.example"
DISK_BYTES = 700_000_000
BODY = b"From: a@sender.test\r\nSubject: x\r\n\r\nhello"


@asynccontextmanager
async def house_on(**database: Any) -> AsyncIterator[House]:
    """A daemon with a domain and an inbox."""
    async with AsyncExitStack() as stack:
        dns = stack.enter_context(DnsServerThread({}))
        settings: dict[str, dict[str, Any]] = {
            "server": {"app_domain": DOMAIN, "public_ip": "127.0.0.1", **database.pop("server", {})},
            "database": {"timeout_seconds": 5, **database},
            "smtp": {"listen": ["127.0.0.1:0"]},
            "api": {"listen": ["127.0.0.1:0"]},
            "dns": {"nameservers": [dns.nameserver]},
            "limits": {"enabled": False},
        }
        daemon = await stack.enter_async_context(running_daemon(settings))
        yield await furnish(daemon, dns, DOMAIN, "127.0.0.1")


async def begin(daemon: Daemon) -> Client:
    """A session that has been greeted while all was well."""
    client = await Client.connect(daemon.smtp)
    await client.hello()
    return client


async def deliver(daemon: Daemon, house: House, body: bytes = BODY) -> str:
    """What a mail is answered in a session of its own; "" when there is no conversation."""
    client = await Client.connect(daemon.smtp)
    try:
        greeting = await client.reply()
        if not greeting.startswith("220"):
            return greeting
        await client.say("EHLO client.test")
        return await client.mail(body, to=house.address)
    except (OSError, TimeoutError):
        return ""
    finally:
        await client.close()


async def send(house: House) -> int:
    """What sending over the API is answered."""
    mail = {"to": ["a@far.test"], "subject": "x", "text": "x"}
    async with house.daemon.request("POST", "/api/v1/emails/send", key=house.key, json_body=mail) as response:
        return int(response.status)


async def until(ask: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float) -> Any:
    """Asks until the answer is as wanted."""
    async with asyncio.timeout(seconds):
        while not wanted(answer := await ask()):
            await asyncio.sleep(0.1)
    return answer


async def test_a_read_only_database_puts_mail_off_and_still_shows_it(database_url: str) -> None:
    name = database_url.removeprefix("postgresql://postgres@/").partition("?")[0]
    async with house_on(url=database_url) as house:
        assert (await deliver(house.daemon, house)).startswith("250")
        client = await begin(house.daemon)
        admin = await asyncpg.connect(database_url)
        await admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert (await client.mail(BODY, to=house.address)).startswith("451 4.3.0")
        await client.close()
        assert await send(house) == 503
        assert len(await house.emails()) == 1
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await until(lambda: deliver(house.daemon, house), lambda reply: reply.startswith("250"), 15)
        await until(lambda: send(house), lambda code: code == 201, 15)


@asynccontextmanager
async def small_disk(directory: Path) -> AsyncIterator[Path]:
    """A file system that is soon full; skips where none can be mounted."""
    image, mount = directory / "disk.img", directory / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount)]):
        try:
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        except FileNotFoundError:
            pytest.skip(f"{command[0]} is not here")
        if done.returncode != 0:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    mount.chmod(0o755)
    try:
        yield mount
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(mount)], check=False)


def fill(ballast: Path) -> None:
    """Takes every octet there is."""
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 24, 1 << 16, 1 << 12):
            while True:
                try:
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), piece)
                except OSError:
                    break


async def test_a_full_disk_puts_mail_off_until_there_is_room(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with small_disk(tmp_path) as disk, house_on(server={"data_dir": str(disk / "var")}) as house:
        before = 0
        while (await deliver(house.daemon, house)).startswith("250") and before < 3:
            before += 1
        ballast = disk / "ballast"
        await asyncio.to_thread(fill, ballast)
        replies = set()
        for _ in range(400):
            reply = await deliver(house.daemon, house, BODY + b"\r\n" + (b"x" * 76 + b"\r\n") * 3000)
            replies.add(reply[:9])
            before += reply.startswith("250")
            if reply.startswith("4"):
                break
        assert replies & {"452 4.3.1", "451 4.3.0", "421 4.3.2"}, replies
        assert await send(house) == 503
        ballast.unlink()
        await until(lambda: deliver(house.daemon, house), lambda reply: reply.startswith("250"), 60)
        await until(lambda: send(house), lambda code: code == 201, 30)
        connection = await asyncpg.connect(EmbeddedPostgres(disk / "var").url)
        stored = await connection.fetchval("SELECT count(*) FROM emails WHERE direction = 'inbound'")
        await connection.close()
        assert stored >= before + 1
