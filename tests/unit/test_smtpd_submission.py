"""Submission: AUTH by an inbox key inside TLS, and mail of that inbox alone."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from clawmail.base.errors import QuotaExceeded, Unauthenticated
from clawmail.base.ids import new_id
from clawmail.model.tenancy import Principal
from clawmail.smtpd.server import SmtpDoor
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door

KEY = "cm_secret"
ADDRESS = "agent@example.test"


@dataclass
class Outbox:
    """Takes what is submitted."""

    failure: Exception | None = None
    sent: list[tuple[str | None, bytes, Sequence[str], dict[str, object], dict[str, object]]] = field(
        default_factory=list
    )

    async def submit(
        self,
        principal: Principal,
        raw: bytes,
        recipients: Sequence[str],
        *,
        options: dict[str, object],
        wishes: dict[str, object],
    ) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        self.sent.append((principal.address, raw, recipients, options, wishes))
        return SimpleNamespace(id="m1")


async def access(address: str, key: str) -> Principal:
    """One inbox with one key."""
    if (address.lower(), key) != (ADDRESS, KEY):
        raise Unauthenticated("Invalid email or API key")
    return Principal("inbox", new_id(), new_id(), new_id(), "example.test", new_id(), ADDRESS)


def b64(text: str) -> str:
    """As AUTH wants it."""
    return base64.b64encode(text.encode()).decode()


def submission(tmp_path: Path, outbox: Outbox) -> AbstractAsyncContextManager[SmtpDoor]:
    """A door on 587."""
    settings = door_settings(tmp_path, listen=[], submission_listen=["127.0.0.1:0"])
    return open_door(settings, ScriptedReceiver(), authenticate=access, submit=outbox.submit)


async def secured(door: SmtpDoor) -> Client:
    """A client inside TLS that has said EHLO."""
    client = await Client.connect(door.addresses[0])
    await client.hello()
    await client.starttls()
    await client.say("EHLO client.test")
    return client


async def test_nothing_goes_without_tls_and_auth(tmp_path: Path) -> None:
    async with submission(tmp_path, Outbox()) as door:
        client = await Client.connect(door.addresses[0])
        assert "AUTH" not in await client.hello()
        assert (await client.say(f"AUTH PLAIN {b64(f'{chr(0)}{ADDRESS}{chr(0)}{KEY}')}")).startswith("538 5.7.11")
        assert (await client.say(f"MAIL FROM:<{ADDRESS}>")).startswith("530 5.7.0 send STARTTLS")
        await client.starttls()
        assert "250 AUTH PLAIN LOGIN" in (await client.say("EHLO client.test")).splitlines()
        assert (await client.say(f"MAIL FROM:<{ADDRESS}>")).startswith("530 5.7.0 authenticate")
        await client.close()


@pytest.mark.parametrize("way", ["plain at once", "plain asked", "login asked", "login at once"])
async def test_a_message_is_queued(tmp_path: Path, way: str) -> None:
    outbox = Outbox()
    async with submission(tmp_path, outbox) as door:
        client = await secured(door)
        plain = b64(f"\0{ADDRESS}\0{KEY}")
        if way == "plain at once":
            reply = await client.say(f"AUTH PLAIN {plain}")
        elif way == "plain asked":
            assert await client.say("AUTH plain") == "334 "
            reply = await client.say(plain)
        else:
            if way == "login asked":
                assert await client.say("AUTH LOGIN") == f"334 {b64('Username:')}"
                assert await client.say(b64(ADDRESS)) == f"334 {b64('Password:')}"
            else:
                assert await client.say(f"AUTH LOGIN {b64(ADDRESS)}") == f"334 {b64('Password:')}"
            reply = await client.say(b64(KEY))
        assert reply == "235 2.7.0 authenticated"
        body = f"From: Agent <{ADDRESS}>\r\nSubject: x\r\n\r\nhello\r\n".encode()
        assert (await client.say(f"MAIL FROM:<{ADDRESS}> RET=HDRS AUTH=<>")).startswith("250")
        assert (await client.say("RCPT TO:<friend@Elsewhere.Test> NOTIFY=NEVER")).startswith("250")
        assert (await client.say("RCPT TO:<nonsense>")).startswith("553 5.1.3")
        await client.say("DATA")
        client.send(body + b".\r\n")
        assert await client.reply() == "250 2.0.0 queued as m1"
        await client.close()
    friend = "friend@elsewhere.test"
    assert outbox.sent == [(ADDRESS, body, [friend], {"ret": "HDRS"}, {friend: {"notify": ("NEVER",)}})]


async def test_a_key_sends_as_its_inbox_alone(tmp_path: Path) -> None:
    outbox = Outbox()
    async with submission(tmp_path, outbox) as door:
        client = await secured(door)
        await client.say(f"AUTH PLAIN {b64(f'{chr(0)}{ADDRESS}{chr(0)}{KEY}')}")
        assert (await client.say("MAIL FROM:<boss@example.test>")).startswith("553 5.7.1")
        for author in (
            b"From: boss@example.test\r\n",
            b"From: agent@example.test, boss@example.test\r\n",
            b"From: agent@example.test\r\nFrom: boss@example.test\r\n",
            b"Subject: nobody\r\n",
        ):
            reply = await client.mail(author + b"\r\nx", sender=ADDRESS, to="friend@elsewhere.test")
            assert reply.startswith("550 5.7.1"), author
        await client.close()
    assert outbox.sent == []


async def test_what_sending_refuses_is_said(tmp_path: Path) -> None:
    outbox = Outbox(failure=QuotaExceeded("Mailbox quota exceeded"))
    async with submission(tmp_path, outbox) as door:
        client = await secured(door)
        await client.say(f"AUTH PLAIN {b64(f'{chr(0)}{ADDRESS}{chr(0)}{KEY}')}")
        reply = await client.mail(f"From: {ADDRESS}\r\n\r\n".encode(), sender=ADDRESS, to="friend@elsewhere.test")
        assert reply == "552 5.2.2 Mailbox quota exceeded"
        await client.close()


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        ("AUTH CRAM-MD5", "504 5.5.4"),
        ("AUTH", "504 5.5.4"),
        ("AUTH PLAIN !!!", "501 5.5.2"),
        (f"AUTH PLAIN {'A' * 2000}", "501 5.5.2"),
        ("AUTH PLAIN =", "501 5.5.2"),
        (f"AUTH PLAIN {b64('onlyone')}", "501 5.5.2"),
        (f"AUTH PLAIN {b64(f'boss@example.test{chr(0)}{ADDRESS}{chr(0)}{KEY}')}", "535 5.7.8"),
        (f"AUTH PLAIN {b64(f'{chr(0)}{ADDRESS}{chr(0)}wrong')}", "535 5.7.8"),
    ],
)
async def test_what_auth_refuses(tmp_path: Path, said: str, reply: str) -> None:
    async with submission(tmp_path, Outbox()) as door:
        client = await secured(door)
        assert (await client.say(said)).startswith(reply)
        assert (await client.say(f"MAIL FROM:<{ADDRESS}>")).startswith("530")
        await client.close()


async def test_auth_can_be_called_off(tmp_path: Path) -> None:
    async with submission(tmp_path, Outbox()) as door:
        client = await secured(door)
        assert (await client.say("AUTH LOGIN")).startswith("334")
        assert (await client.say("*")).startswith("501 5.7.0")
        assert (await client.say("NOOP")).startswith("250")
        await client.close()


async def test_an_endless_answer_is_no_answer(tmp_path: Path) -> None:
    async with submission(tmp_path, Outbox()) as door:
        client = await secured(door)
        assert (await client.say("AUTH LOGIN")).startswith("334")
        client.send(b"A" * 3000)
        assert (await client.reply()).startswith("500 5.5.2")
        assert await client.ended()
        await client.close()


async def test_three_wrong_keys_are_enough(tmp_path: Path) -> None:
    async with submission(tmp_path, Outbox()) as door:
        client = await secured(door)
        wrong = f"AUTH PLAIN {b64(f'{chr(0)}{ADDRESS}{chr(0)}wrong')}"
        assert (await client.say(wrong)).startswith("535")
        assert (await client.say(wrong)).startswith("535")
        assert (await client.say(wrong)).startswith("421 4.7.0")
        assert await client.ended()
        await client.close()
