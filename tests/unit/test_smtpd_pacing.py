"""Pacing: the counts by themselves, and at a door with limits on."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path

import msgspec
import pytest

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Refused
from clawmail.core.rates import Rates
from clawmail.smtpd.data import Collector, Problem
from clawmail.smtpd.pacing import MEGABYTE, Load, Pacing
from clawmail.smtpd.replies import Hangup
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door

HERE = ip_address("192.0.2.1")


def pacing(enabled: bool = True, now: list[float] | None = None, **smtp: object) -> Pacing:
    """With a clock that the test moves."""
    clock = now if now is not None else [0.0]
    return Pacing(msgspec.convert(smtp, Smtp), Rates(None, clock=lambda: clock[0]), enabled=enabled)


def test_sessions_of_a_network_and_in_all() -> None:
    counts = pacing(max_connections=3, max_connections_per_network=2)
    counts.enter(HERE)
    counts.enter(ip_address("192.0.2.200"))
    with pytest.raises(Hangup, match=r"421 4\.7\.0 .*192\.0\.2\.0/24"):
        counts.enter(HERE)
    counts.enter(ip_address("198.51.100.1"))
    with pytest.raises(Hangup, match=r"421 4\.3\.2"):
        counts.enter(ip_address("203.0.113.1"))
    counts.leave(HERE)
    counts.enter(HERE)


async def test_messages_a_minute_flow_back() -> None:
    now = [0.0]
    counts = pacing(now=now, messages_per_minute=2)
    await counts.begin_message(HERE)
    await counts.begin_message(HERE)
    with pytest.raises(Refused, match=r"450 4\.7\.1"):
        await counts.begin_message(HERE)
    await counts.begin_message(ip_address("192.0.2.2"))
    now[0] = 31.0
    await counts.begin_message(HERE)
    with pytest.raises(Refused, match=r"450 4\.7\.1"):
        await counts.begin_message(HERE)


async def test_a_large_message_is_paid_for_by_the_next() -> None:
    now = [0.0]
    counts = pacing(now=now, megabytes_per_minute=1)
    await counts.begin_message(HERE)
    counts.count_octets(HERE, 2 * MEGABYTE)
    now[0] = 59.0
    with pytest.raises(Refused, match=r"450 4\.7\.1 more than 1 megabytes"):
        await counts.begin_message(HERE)
    now[0] = 61.0
    await counts.begin_message(HERE)


async def test_switched_off_nobody_is_paced() -> None:
    counts = pacing(enabled=False, max_connections=1, max_connections_per_network=1, messages_per_minute=1)
    for _ in range(3):
        counts.enter(HERE)
        await counts.begin_message(HERE)
        counts.count_octets(HERE, 10**12)


def test_memory_of_messages_on_their_way_is_bounded_whatever_the_settings() -> None:
    counts = pacing(enabled=False, max_bytes_in_flight=100)
    first, second = Collector(1000), Collector(1000)
    load, other = Load(counts, first, HERE), Load(counts, second, HERE)
    first.add(b"x" * 60)
    load.grown()
    second.add(b"y" * 60)
    other.grown()
    assert (first.problem, second.problem) == (None, Problem.NO_ROOM)
    assert counts.octets_on_their_way == 60
    load.release()
    other.release()
    assert counts.octets_on_their_way == 0


def test_one_network_cannot_take_the_memory_of_all() -> None:
    counts = pacing(max_bytes_in_flight=400, max_message_bytes=50)
    theirs = [Collector(50) for _ in range(3)]
    loads = [Load(counts, one, HERE) for one in theirs]
    for one, load in zip(theirs, loads, strict=True):
        one.add(b"x" * 40)
        load.grown()
    assert [one.problem for one in theirs] == [None, None, Problem.NO_ROOM]
    elsewhere = Collector(50)
    load = Load(counts, elsewhere, ip_address("198.51.100.1"))
    elsewhere.add(b"y" * 40)
    load.grown()
    assert elsewhere.problem is None
    for each in (*loads, load):
        each.release()
    assert counts.octets_on_their_way == 0


def test_a_network_may_send_one_message_however_little_memory_there_is() -> None:
    counts = pacing(max_bytes_in_flight=100, max_message_bytes=90)
    message = Collector(90)
    load = Load(counts, message, HERE)
    message.add(b"x" * 90)
    load.grown()
    assert message.problem is None


async def test_whoever_tries_out_names_is_sent_away(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, limits=True, tarpit_seconds=0.01, max_unknown_recipients=3)
    async with open_door(settings, ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        await client.say("MAIL FROM:<a@sender.test>")
        for _ in range(3):
            assert (await client.say("RCPT TO:<unknown@example.test>")).startswith("550 5.1.1")
        assert (await client.say("RCPT TO:<unknown@example.test>")).startswith("421 4.7.0")
        assert await client.ended()
        await client.close()


async def test_switched_off_refused_recipients_cost_nothing(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, tarpit_seconds=3600, max_unknown_recipients=1)
    async with open_door(settings, ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        await client.say("MAIL FROM:<a@sender.test>")
        for _ in range(30):
            assert (await client.say("RCPT TO:<unknown@example.test>")).startswith("550 5.1.1")
        await client.close()


async def test_a_network_has_so_many_sessions_and_gets_them_back(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, limits=True, max_connections_per_network=1)
    async with open_door(settings, ScriptedReceiver()) as door:
        first = await Client.connect(door.addresses[0])
        await first.hello()
        second = await Client.connect(door.addresses[0])
        assert (await second.reply()).startswith("421 4.7.0")
        assert await second.ended()
        assert (await first.say("QUIT")).startswith("221")
        assert await first.ended()
        third = await Client.connect(door.addresses[0])
        await third.hello()
        for client in (first, second, third):
            await client.close()


async def test_a_sender_has_so_many_messages(tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path, limits=True, messages_per_minute=1), receiver) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("250")
        assert (await client.say("MAIL FROM:<>")).startswith("450 4.7.1")
        await client.close()


async def test_whoever_has_had_his_share_hears_it_later(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, limits=True, messages_per_minute=1, tarpit_seconds=3600)
    async with open_door(settings, ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("250")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.say("MAIL FROM:<>"), 0.2)
        await client.close()


async def test_commands_that_bring_nothing_end_a_session(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path, limits=True), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        client.send(b"NOOP\r\n" * 500)
        replies = [await client.reply() for _ in range(500)]
        assert replies[-1].startswith("421 4.7.0")
        assert await client.ended()
        await client.close()
