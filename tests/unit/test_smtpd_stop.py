"""Stopping with grace, and an unwell store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from clawmail.base.errors import StoreUnwell
from clawmail.smtpd import health
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door


async def test_idle_sessions_go_and_a_transaction_is_finished(tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path), receiver) as door:
        idle, busy = await Client.connect(door.addresses[0]), await Client.connect(door.addresses[0])
        await idle.hello()
        await busy.hello()
        await busy.say("MAIL FROM:<>")
        stopping = asyncio.create_task(door.stop(5))
        assert (await idle.reply()).startswith("421 4.3.2")
        assert await idle.ended()
        with pytest.raises(ConnectionRefusedError):
            await Client.connect(door.addresses[0])
        await busy.say("RCPT TO:<agent@example.test>")
        await busy.say("DATA")
        busy.send(b"Subject: x\r\n.\r\n")
        assert (await busy.reply()).startswith("250")
        assert (await busy.reply()).startswith("421 4.3.2")
        assert await busy.ended()
        await stopping
        await idle.close()
        await busy.close()
    assert len(receiver.envelopes) == 1


async def test_the_grace_period_ends(tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        for command in ("MAIL FROM:<>", "RCPT TO:<agent@example.test>", "DATA"):
            await client.say(command)
        client.send(b"half a mess")
        await door.stop(0.1)
        assert (await client.reply()).startswith("421 4.3.2")
        assert await client.ended()
        assert door.sessions == 0
        await client.close()
    assert receiver.envelopes == []


async def test_the_door_closes_while_the_store_is_unwell_and_opens_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.05)
    well = True
    looked = asyncio.Event()

    async def probe() -> None:
        looked.set()
        if not well:
            raise StoreUnwell("down")

    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path), receiver, probe=probe) as door:
        flying = await Client.connect(door.addresses[0])
        await flying.hello()
        well, receiver.failure = False, StoreUnwell("down")
        assert (await flying.mail(b"Subject: x\r\n")).startswith("451 4.3.0")
        new = await Client.connect(door.addresses[0])
        assert (await new.reply()).startswith("421 4.3.2")
        assert await new.ended()
        well, receiver.failure = True, None
        for _ in range(2):
            looked.clear()
            await looked.wait()
        await asyncio.sleep(0)
        assert (await flying.mail(b"Subject: x\r\n")).startswith("250")
        again = await Client.connect(door.addresses[0])
        assert (await again.reply()).startswith("220")
        for client in (flying, new, again):
            await client.close()


async def test_the_probe_alone_closes_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.01)
    looked = asyncio.Event()

    async def probe() -> None:
        looked.set()
        raise StoreUnwell("down")

    async with open_door(door_settings(tmp_path), ScriptedReceiver(), probe=probe) as door:
        await looked.wait()
        await asyncio.sleep(0)
        client = await Client.connect(door.addresses[0])
        assert (await client.reply()).startswith("421 4.3.2")
        await client.close()


async def test_a_probe_that_fails_in_an_unknown_way_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PROBE_SECONDS", 0.0)
    failures: list[Exception] = [StoreUnwell("down"), RuntimeError("nobody thought of this")]
    seen: list[bool] = []

    async def probe() -> None:
        seen.append(state.unwell)
        if failures:
            raise failures.pop(0)

    state = health.Health(probe)
    watching = asyncio.create_task(state.watch())
    async with asyncio.timeout(10):
        while len(seen) < 4:
            await asyncio.sleep(0)
    watching.cancel()
    assert seen[:4] == [False, True, True, False]


async def test_without_a_probe_the_next_session_after_a_while_tries_again() -> None:
    now = 100.0
    state = health.Health(clock=lambda: now)
    state.failed(StoreUnwell("down"))
    assert state.unwell
    now += health.FORGET_SECONDS + 0.1
    assert not state.unwell
