"""From the socket to the table: what was accepted is stored exactly as sent, what was refused is not stored at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from clawmail.app import QUEUE_CONNECTIONS, build
from clawmail.base.settings import Api, Limits, Server, Settings, Smtp
from clawmail.running import App
from clawmail.store.db import Database
from tests.support.smtp import Client
from tests.support.tenants import Tenant
from tests.support.zones import ScriptedResolver


@dataclass
class House:
    """A whole app in this process, and a look into its database."""

    app: App
    db: Database

    async def client(self) -> Client:
        """Somebody who has said EHLO."""
        client = await Client.connect(self.app.door.addresses[0])
        await client.hello()
        return client

    async def stored(self) -> list[bytes]:
        """Every message's bytes, oldest first."""
        async with self.db.connection() as conn:
            return [
                row["raw"]
                for row in await conn.fetch("SELECT coalesce(raw, pieces_of(id)) AS raw FROM messages ORDER BY id")
            ]

    async def copies(self) -> int:
        """How many emails there are in all inboxes."""
        async with self.db.connection() as conn:
            count: int = await conn.fetchval("SELECT count(*) FROM emails")
        return count


@pytest.fixture
async def house(tmp_path: Path, database_url: str, db: Database, tenant: Tenant) -> AsyncIterator[House]:
    """Open, with the tenant's domain in it and a world without DNS records."""
    settings = Settings(
        server=Server(hostname="mx.example.test", app_domain="example.test", data_dir=str(tmp_path)),
        smtp=Smtp(listen=["127.0.0.1:0"]),
        api=Api(listen=["127.0.0.1:0"]),
        limits=Limits(enabled=False),
    )
    app = build(settings, database_url, resolver=ScriptedResolver({}))
    await app.start()
    yield House(app, db)
    await app.stop(1)


@pytest.mark.parametrize("tls", [False, True])
async def test_bytes_arrive_as_they_were_sent(house: House, tls: bool) -> None:
    messages = [
        b"",
        b"no header at all\r\n",
        b"Subject: dots\r\n\r\n.\r\n..\r\n...x\r\n",
        b"Subject: eight bits and NUL\r\n\r\n\xff\xfe\0\xc3\xbc\r\n",
        b"Subject: " + b"x" * 100_000 + b"\r\n\r\nlong\r\n",
        b"Subject: big\r\n\r\n" + (b"y" * 76 + b"\r\n") * 20_000,
        b"\r\n\r\nonly a body\r\n",
    ]
    client = await house.client()
    if tls:
        await client.starttls()
        await client.say("EHLO client.test")
    for message in messages:
        for command in ("MAIL FROM:<a@sender.test>", "RCPT TO:<agent@example.test>", "DATA"):
            await client.say(command)
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        client.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        assert (await client.reply()).startswith("250 2.0.0 queued as"), message[:40]
    # A chunk need not end with a line.
    for command in ("MAIL FROM:<a@sender.test>", "RCPT TO:<agent@example.test>"):
        await client.say(command)
    client.send(b"BDAT 17 LAST\r\nSubject: x\r\n\r\nend")
    assert (await client.reply()).startswith("250 2.0.0 queued as")
    await client.close()
    assert await house.stored() == [*messages, b"Subject: x\r\n\r\nend"]


async def test_what_is_refused_leaves_no_trace(house: House) -> None:
    client = await house.client()
    for body, reply in (
        (b"Subject: bare\r\n\r\none\ntwo", "550 5.6.0"),
        (b"Received: by mx.example.test\r\n" * 4 + b"\r\nround and round", "554 5.4.6"),
        (b"Received: by host.test\r\n" * 51 + b"\r\nround and round", "554 5.4.6"),
    ):
        assert (await client.mail(body)).startswith(reply)
    assert (await client.mail(b"x", to="agent@elsewhere.test")).startswith("550 5.7.1")
    for command in ("MAIL FROM:<a@sender.test>", "RCPT TO:<agent@example.test>", "DATA"):
        await client.say(command)
    client.send(b"Subject: half")
    client.writer.transport.abort()
    assert await house.stored() == []
    assert await house.copies() == 0


async def test_one_copy_for_each_inbox_however_many_of_its_names_were_said(house: House) -> None:
    client = await house.client()
    await client.say("MAIL FROM:<>")
    for address in ("agent@example.test", "AGENT@Example.Test", "one@example.test", "two@example.test", "Postmaster"):
        assert (await client.say(f"RCPT TO:<{address}>")).startswith("250 2.1.5"), address
    await client.say("DATA")
    client.send(b"Subject: x\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    await client.close()
    assert len(await house.stored()) == 1
    # The agent's, and the catch-all's for all the others.
    assert await house.copies() == 2


async def test_mail_is_filed_while_the_queue_has_all_of_its_connections(house: House) -> None:
    _, filing, queue = house.app.databases
    client = await house.client()
    async with AsyncExitStack() as crowd:
        for _ in range(QUEUE_CONNECTIONS):
            await crowd.enter_async_context(queue.connection())
        assert (await client.mail(b"Subject: in time\r\n\r\nx\r\n", to="agent@example.test")).startswith("250")
        async with filing.connection() as conn:
            assert await conn.fetchval("SELECT count(*) FROM emails") == 1
    await client.close()
