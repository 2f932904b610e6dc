"""The world under torture, in three shapes, put up and taken down.

``alone``: one server with two processes and the embedded PostgreSQL, on a small disk of its own where the machine lets
us mount one. ``together``: two servers that share one PostgreSQL over a network that can be cut; the wall clock of one
of them can be set. ``mirrored``: the same two on a PostgreSQL with a synchronous standby.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import mmap
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from clawmail.store.embedded import EmbeddedPostgres
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.smtp_sink import SmtpSink
from tests.torture.ledger import Ledger
from tests.torture.load import Target
from tests.torture.proxy import Proxy
from tests.torture.standby import pair_in
from tests.torture.world import DOMAIN, LEASE_SECONDS, Node, Witness, World

#: longest wait of a server for its database.
DATABASE_SECONDS = 5.0
#: the small disk: room for what half an hour of load leaves (200 MB a minute); filling it up writes next to nothing.
DISK_BYTES = 8_000_000_000


def _settings(
    out_port: int, nameserver: str, *, number: int = 0, **sections: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Settings of the server of that ``number``."""
    settings: dict[str, dict[str, Any]] = {
        "server": {"app_domain": DOMAIN, "public_ip": "127.0.0.1", "grace_seconds": 5},
        "database": {"timeout_seconds": DATABASE_SECONDS},
        "smtp": {"listen": [f"127.0.0.1:{free_port()}"]},
        "api": {"listen": [f"127.0.0.1:{free_port()}"]},
        "dns": {"nameservers": [nameserver]},
        "outbound": {
            "port": out_port,
            "source_ip": f"127.0.1.{number + 1}",
            "allow_private": True,
            "lease_seconds": LEASE_SECONDS,
            "poll_seconds": 0.5,
            "retry_schedule_seconds": [1.0] * 600,
            "dot_timeout_seconds": 5.0,
            "command_timeout_seconds": 5.0,
            "connect_timeout_seconds": 2.0,
            "mta_sts": False,
            "dane": False,
        },
        "limits": {"enabled": False},
        "inbox": {"storage_quota_bytes": 1 << 40},
    }
    for section, keys in sections.items():
        settings.setdefault(section, {}).update(keys)
    return settings


@contextlib.asynccontextmanager
async def _surroundings() -> AsyncIterator[tuple[Ledger, DnsServerThread, SmtpSink, Path]]:
    """A name server, a sink that writes down what it takes, and a directory."""
    ledger = Ledger()
    zone = {"far.test": {"MX": ["10 mx.far.test"]}, "mx.far.test": {"A": ["127.0.0.1"]}}
    directory = Path(tempfile.mkdtemp(prefix="clawmail-torture-"))
    directory.chmod(0o755)
    replies = {"RCPT": lambda argument: "550 5.1.1 no such user" if "nobody" in argument else None}
    try:
        with DnsServerThread(zone) as dns:
            async with SmtpSink(port=free_port(), replies=replies, messages=Witness(ledger)) as sink:
                yield ledger, dns, sink, directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.asynccontextmanager
async def alone() -> AsyncIterator[World]:
    """One server with two processes and the embedded PostgreSQL."""
    async with _surroundings() as (ledger, dns, sink, directory), _small_disk(directory) as disk:
        data_dir = (disk or directory) / "var"
        server = {"data_dir": str(data_dir), "workers": 2}
        node = Node(_settings(sink.port, dns.nameserver, server=server), directory / "node")
        await node.start()
        try:
            target = await _furnish([node], dns)
            embedded = EmbeddedPostgres(data_dir)
            yield World(ledger, [node], sink, target, embedded.url, embedded.directory, disk=disk)
        finally:
            await _end(node)


@contextlib.asynccontextmanager
async def together() -> AsyncIterator[World]:
    """Two servers on one PostgreSQL behind a network of ours."""
    async with _surroundings() as (ledger, dns, sink, directory), contextlib.AsyncExitStack() as stack:
        postgres = EmbeddedPostgres(directory / "shared", settings={"max_connections": "80"})
        await postgres.start()
        stack.push_async_callback(postgres.stop)
        proxy = await _proxy(stack, postgres.socket_directory / ".s.PGSQL.5432")
        set_clock, preload = _settable_clock(directory)
        nodes, target = await _two_nodes(stack, directory, dns, sink.port, proxy.port, preload)
        yield World(ledger, nodes, sink, target, postgres.url, postgres.directory, proxy=proxy, set_clock=set_clock)


@contextlib.asynccontextmanager
async def mirrored() -> AsyncIterator[World]:
    """Two servers on a PostgreSQL with a synchronous standby."""
    async with _surroundings() as (ledger, dns, sink, directory), contextlib.AsyncExitStack() as stack:
        pair = await stack.enter_async_context(pair_in(directory))
        proxy = await _proxy(stack, pair.socket)
        nodes, target = await _two_nodes(stack, directory, dns, sink.port, proxy.port, {})
        yield World(ledger, nodes, sink, target, pair.url, pair.primary / "data", proxy=proxy, pair=pair)


async def _proxy(stack: contextlib.AsyncExitStack, upstream: Path) -> Proxy:
    proxy = Proxy(str(upstream))
    await proxy.start()
    stack.push_async_callback(proxy.stop)
    return proxy


async def _two_nodes(
    stack: contextlib.AsyncExitStack,
    directory: Path,
    dns: DnsServerThread,
    out_port: int,
    database_port: int,
    environment: Mapping[str, str],
) -> tuple[list[Node], Target]:
    """Two servers on the database at ``database_port``, started at once; ``environment`` is that of the second."""
    nodes = []
    for number, variables in enumerate(({}, environment)):
        place = directory / f"node{number}"
        settings = _settings(
            out_port,
            dns.nameserver,
            number=number,
            database={"url": f"postgresql://postgres@127.0.0.1:{database_port}/postgres"},
            server={"secret_key": "5a" * 32, "data_dir": str(place / "var")},
        )
        nodes.append(Node(settings, place, variables))
    await asyncio.gather(*(node.start() for node in nodes))
    for node in nodes:
        stack.push_async_callback(_end, node)
    return nodes, await _furnish(nodes, dns)


async def _furnish(nodes: list[Node], dns: DnsServerThread) -> Target:
    """Registers and verifies a domain on the first node and makes an inbox key."""
    daemons = [node.daemon for node in nodes if node.daemon is not None]
    first = daemons[0]
    made = await first.post("/api/v1/domains/register", "", {"domain": DOMAIN})
    token = made["verification_token"]
    dns.set(made["dns_txt_record"], "TXT", [made["dns_txt_value"]])
    dns.set(DOMAIN, "MX", [f"10 {made['mx_record']}"])
    dns.set(made["a_record"]["name"], "A", ["127.0.0.1"])
    await first.post("/api/v1/domains/verify", "", {"verification_token": token}, status=200)
    inbox = f"agent@{DOMAIN}"
    key = await first.post("/api/v1/api-keys", token, {"email": inbox, "label": "torture"})
    await first.post("/api/v1/api-keys", token, {"email": f"other@{DOMAIN}", "label": "torture"})
    return Target([d.smtp for d in daemons], [d.api for d in daemons], inbox, f"{inbox}:{key['api_key']}")


async def _end(node: Node) -> None:
    if node.daemon is not None and node.daemon.process.returncode is None:
        node.daemon.process.send_signal(signal.SIGCONT)
        await node.daemon.stop()


@contextlib.asynccontextmanager
async def _small_disk(directory: Path) -> AsyncIterator[Path | None]:
    """A file system of its own in a file: fsync reaches it as it would a disk. None where mounting is not allowed."""
    image, mount = directory / "disk.img", directory / "disk"
    mount.mkdir()
    image.touch()
    try:
        with image.open("r+b") as file:
            file.truncate(DISK_BYTES)
        for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mount)]):
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
            if done.returncode != 0:
                yield None
                return
    except FileNotFoundError:
        yield None
        return
    mount.chmod(0o755)
    try:
        yield mount
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", "-l", str(mount)], check=False)


def _settable_clock(directory: Path) -> tuple[Any, dict[str, str]]:
    """A function that sets a wall clock, and the environment of the process it belongs to; (None, {}): no compiler."""
    library, page = directory / "clock.so", directory / "clock"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(Path(__file__).with_name("clock.c")), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None, {}
    page.write_bytes(bytes(ctypes.sizeof(ctypes.c_long)))
    with page.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), ctypes.sizeof(ctypes.c_long))

    def set_clock(seconds: int) -> None:
        shared[:] = struct.pack("l", seconds)

    return set_clock, {"LD_PRELOAD": str(library), "TORTURE_CLOCK": str(page)}
