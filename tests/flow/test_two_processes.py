"""Several processes on one database behave as one: keys, directory, queue, and the work of one that died."""

from __future__ import annotations

import asyncio
import signal
import smtplib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.flow.test_two_daemons import furnish
from tests.support.certificates import make_host
from tests.support.daemon import Daemon, running_daemon, start_daemon
from tests.support.dns_server import DnsServerThread
from tests.support.ports import free_port
from tests.support.smtp_sink import SmtpSink

DOMAIN = "shared.example"
LEASE_SECONDS = 2.0
#: far less than a process believes what it remembers (30 and 60 s): whoever knows by then was told.
TOLD_SECONDS = 10


@pytest.fixture
async def dns() -> AsyncIterator[DnsServerThread]:
    """A name server that knows where far.test is."""
    with DnsServerThread({"far.test": {"MX": ["10 mx.far.test"]}, "mx.far.test": {"A": ["127.0.0.1"]}}) as server:
        yield server


def settings(url: str, dns: DnsServerThread, out_port: int, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings of one node of an installation on ``url``."""
    made: dict[str, dict[str, Any]] = {
        "server": {"app_domain": DOMAIN, "public_ip": "127.0.0.1", "secret_key": "5a" * 32},
        "database": {"url": url},
        "smtp": {"listen": ["127.0.0.1:0"], "unknown_local_part": "reject"},
        "api": {"listen": ["127.0.0.1:0"]},
        "dns": {"nameservers": [dns.nameserver]},
        "outbound": {
            "port": out_port,
            "allow_private": True,
            "lease_seconds": LEASE_SECONDS,
            "poll_seconds": 0.5,
            "mta_sts": False,
            "max_attempts_in_flight": 4,
        },
        "limits": {"enabled": False},
    }
    for name, keys in sections.items():
        made[name] = {**made[name], **keys}
    return made


@pytest.fixture
async def nodes(database_url: str, dns: DnsServerThread) -> AsyncIterator[tuple[Daemon, Daemon, SmtpSink]]:
    """Two servers on one database, and a sink for what they send."""
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(SmtpSink(delay=0.02))
        made = settings(database_url, dns, sink.port)
        one = await stack.enter_async_context(running_daemon(made))
        two = await stack.enter_async_context(running_daemon(made))
        yield one, two, sink


async def status(daemon: Daemon, key: str) -> int:
    """What an inbox key is answered now."""
    async with daemon.request("GET", "/api/v1/emails", key=key) as response:
        return int(response.status)


async def becomes(daemon: Daemon, key: str, wanted: int) -> None:
    """At once, as far as a NOTIFY is at once."""
    async with asyncio.timeout(TOLD_SECONDS):
        while await status(daemon, key) != wanted:
            await asyncio.sleep(0.005)


def rcpt(daemon: Daemon, address: str) -> int:
    """The code that a recipient is answered."""
    with smtplib.SMTP(*daemon.smtp, timeout=20) as client:
        client.ehlo("client.test")
        client.mail("a@sender.test")
        return client.rcpt(address)[0]


async def test_what_changes_on_one_is_known_to_the_other_at_once(
    nodes: tuple[Daemon, Daemon, SmtpSink], dns: DnsServerThread
) -> None:
    one, two, _ = nodes
    house = await furnish(one, dns, DOMAIN, "127.0.0.1")
    assert await status(two, house.key) == 200
    listed = (await two.get("/api/v1/api-keys", house.token))["api_keys"]
    assert await asyncio.to_thread(rcpt, two, f"new@{DOMAIN}") == 550
    made = await one.post("/api/v1/api-keys", house.token, {"email": f"new@{DOMAIN}", "label": ""})
    async with asyncio.timeout(TOLD_SECONDS):
        while await asyncio.to_thread(rcpt, two, f"new@{DOMAIN}") != 250:
            await asyncio.sleep(0.01)
    assert await status(two, f"new@{DOMAIN}:{made['api_key']}") == 200

    async with one.request("DELETE", f"/api/v1/api-keys/{listed[0]['id']}", key=house.token) as response:
        assert response.status == 204
    await becomes(two, house.key, 401)
    async with two.request("DELETE", f"/api/v1/domains/{DOMAIN}", key=house.token) as response:
        assert response.status == 204
    await becomes(one, f"new@{DOMAIN}:{made['api_key']}", 401)
    async with asyncio.timeout(TOLD_SECONDS):
        while await asyncio.to_thread(rcpt, one, f"new@{DOMAIN}") != 550:
            await asyncio.sleep(0.01)


async def test_a_key_revoked_on_one_worker_is_revoked_on_all(database_url: str, dns: DnsServerThread) -> None:
    ports = {"listen": [f"127.0.0.1:{free_port()}"]}
    api = {"listen": [f"127.0.0.1:{free_port()}"]}
    made = settings(database_url, dns, 1, server={"workers": 2}, smtp=ports, api=api)
    async with running_daemon(made) as daemon:
        await daemon.logged("worker ready")
        house = await furnish(daemon, dns, DOMAIN, "127.0.0.1")
        assert {await status(daemon, house.key) for _ in range(20)} == {200}
        (key,) = (await daemon.get("/api/v1/api-keys", house.token))["api_keys"]
        async with daemon.request("DELETE", f"/api/v1/api-keys/{key['id']}", key=house.token) as response:
            assert response.status == 204
        await becomes(daemon, house.key, 401)
        for _ in range(20):  # connections are shared out: both processes are asked
            await becomes(daemon, house.key, 401)
        assert {await status(daemon, house.key) for _ in range(20)} == {401}


async def test_the_queue_is_shared(nodes: tuple[Daemon, Daemon, SmtpSink], dns: DnsServerThread) -> None:
    one, two, sink = nodes
    house = await furnish(one, dns, DOMAIN, "127.0.0.1")
    for number in range(40):
        mail = {"to": [f"n{number}@far.test"], "subject": "x", "text": "x"}
        await one.post("/api/v1/emails/send", house.key, mail)
    async with asyncio.timeout(30):
        while len(sink.recipients()) < 40:
            await asyncio.sleep(0.05)
    assert sorted(sink.recipients()) == sorted(f"n{number}@far.test" for number in range(40))
    for node in (one, two):
        await node.logged("delivered")


async def test_the_work_of_a_killed_node_is_taken_over_within_its_lease(
    database_url: str, dns: DnsServerThread, tmp_path: Path
) -> None:
    async with SmtpSink(silent="DOT") as sink:
        made = settings(database_url, dns, sink.port)
        first = await start_daemon(made, tmp_path / "first")
        house = await furnish(first, dns, DOMAIN, "127.0.0.1")
        await first.post("/api/v1/emails/send", house.key, {"to": ["a@far.test"], "subject": "x", "text": "x"})
        async with asyncio.timeout(10):
            while not any(command == "DATA" or command.startswith("BDAT") for command in sink.commands):
                await asyncio.sleep(0.01)
        second = await start_daemon(made, tmp_path / "second")
        try:
            sink.silent = ""
            await first.stop(signal.SIGKILL)
            died = time.monotonic()
            taken = await second.logged("lease taken over", seconds=LEASE_SECONDS * 3)
            assert taken["to"] == "a@far.test"
            await second.logged("delivered", seconds=10)
            print(f"taken over and delivered {time.monotonic() - died:.2f} s after the kill, lease {LEASE_SECONDS} s")
        finally:
            await second.stop()
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT state FROM deliveries") == "delivered"
    await connection.close()


async def test_limits_are_those_of_the_house(database_url: str, dns: DnsServerThread) -> None:
    """Five sends an hour are five, wherever they are asked for, and one that is started again does not forget."""
    limits = {"enabled": True, "inbox_send_per_hour": 5, "domain_registration_per_hour": 10}
    made = settings(database_url, dns, 1, limits=limits)
    async with running_daemon(made) as one:
        house = await furnish(one, dns, DOMAIN, "127.0.0.1")
        async with running_daemon(made) as two:
            asked = [await send(daemon, house.key) for _ in range(4) for daemon in (one, two)]
            assert asked == [(201, str(left)) for left in (4, 3, 2, 1, 0)] + [(429, "0")] * 3
            async with one.request("POST", "/api/v1/domains/register", json_body={"domain": "x.example"}) as answer:
                left = int(answer.headers["RateLimit-Remaining"])
            async with two.request("POST", "/api/v1/domains/register", json_body={"domain": "y.example"}) as answer:
                assert int(answer.headers["RateLimit-Remaining"]) == left - 1
    async with running_daemon(made) as three:
        assert await send(three, house.key) == (429, "0")


async def send(daemon: Daemon, key: str) -> tuple[int, str]:
    """The status of a send, and how many the server says are left."""
    mail = {"to": "someone@far.test", "subject": "x", "text": "x"}
    async with daemon.request("POST", "/api/v1/emails/send", key=key, json_body=mail) as response:
        return response.status, response.headers["RateLimit-Remaining"]


async def test_a_renewed_certificate_is_served_by_all_workers(
    database_url: str, dns: DnsServerThread, tmp_path: Path
) -> None:
    """Which of the processes answers a connection is the kernel's choice: forty of them meet both."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def renew() -> bytes:
        identity = make_host(f"mx.{DOMAIN}")
        private = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        key.write_bytes(private)
        chain.write_bytes(identity.pem)
        return identity.der

    old = renew()
    smtp = {"listen": [f"127.0.0.1:{free_port()}"], "tls_cert": str(chain), "tls_key": str(key)}
    api = {"listen": [f"127.0.0.1:{free_port()}"]}
    made = settings(database_url, dns, 1, server={"workers": 2}, smtp=smtp, api=api)
    async with running_daemon(made) as daemon:
        await daemon.logged("worker ready")
        assert {await asyncio.to_thread(shown, daemon) for _ in range(40)} == {old}
        new = renew()
        async with asyncio.timeout(30):
            while {await asyncio.to_thread(shown, daemon) for _ in range(40)} != {new}:
                await asyncio.sleep(0.1)


def shown(daemon: Daemon) -> bytes:
    """The certificate that STARTTLS shows now."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(*daemon.smtp, timeout=20) as client:
        client.starttls(context=context)
        assert isinstance(client.sock, ssl.SSLSocket)
        certificate = client.sock.getpeercert(binary_form=True)
        assert certificate is not None
        return certificate


async def test_a_node_works_on_while_another_expands_the_schema(
    nodes: tuple[Daemon, Daemon, SmtpSink], dns: DnsServerThread, database_url: str
) -> None:
    """A newer node starts beside us: every table has a column more in mid-flight, and no request of ours fails."""
    one, two, sink = nodes
    house = await furnish(one, dns, DOMAIN, "127.0.0.1")

    async def everything(number: int) -> None:
        """What a node does all day, on both, often enough to have been prepared on every connection of the pool."""
        for daemon in (one, two):
            await asyncio.gather(*(asyncio.to_thread(deliver, daemon, house.address) for _ in range(4)))
            mail = {"to": [f"n{number}@far.test"], "subject": "x", "text": "x"}
            answers = await asyncio.gather(*(daemon.post("/api/v1/emails/send", house.key, mail) for _ in range(4)))
            lists = await asyncio.gather(*(daemon.get("/api/v1/emails", house.key) for _ in range(4)))
            newest = lists[0]["emails"][0]["id"]
            await daemon.get(f"/api/v1/emails/{newest}", house.key)
            await daemon.get(f"/api/v1/emails/{answers[0]['id']}/events", house.key)
            await daemon.get("/api/v1/threads", house.key)
            await daemon.get("/api/v1/api-keys", house.token)
            async with daemon.request("DELETE", f"/api/v1/emails/{newest}", key=house.key) as response:
                assert response.status == 204
        async with asyncio.timeout(30):
            while len(sink.recipients()) < 8 * (number + 1):
                await asyncio.sleep(0.05)

    await everything(0)
    connection = await asyncpg.connect(database_url)
    tables = await connection.fetch("SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'")
    async with connection.transaction():
        for table in tables:
            await connection.execute(f"ALTER TABLE {table['name']} ADD COLUMN of_a_later_release integer DEFAULT 7")
    await connection.close()
    await everything(1)
    await everything(2)
    for daemon in (one, two):
        assert [line for line in daemon.log if line.get("exception")] == []


def deliver(daemon: Daemon, address: str) -> None:
    """A mail from outside, which has to be taken."""
    with smtplib.SMTP(*daemon.smtp, timeout=20) as client:
        client.sendmail("a@sender.test", [address], b"From: a@sender.test\r\nSubject: x\r\n\r\nx\r\n")
