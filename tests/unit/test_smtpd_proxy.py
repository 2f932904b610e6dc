"""PROXY headers: believed from named networks, and from nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door, trusting

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_2(command: int, source: str) -> bytes:
    """A binary header: command 1 is PROXY, 0 is LOCAL."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    packed = socket.inet_pton(family, source)
    body = packed + packed + struct.pack("!HH", 40000, 25)
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, 0x21 if ":" in source else 0x11, len(body)) + body


@pytest.mark.parametrize(
    ("header", "client_ip"),
    [
        (b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 25\r\n", IPv4Address("192.0.2.7")),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 40000 25\r\n", IPv6Address("2001:db8::7")),
        (b"PROXY UNKNOWN\r\n", IPv4Address("127.0.0.1")),
        (version_2(1, "192.0.2.7"), IPv4Address("192.0.2.7")),
        (version_2(1, "2001:db8::7"), IPv6Address("2001:db8::7")),
        (version_2(0, "192.0.2.7"), IPv4Address("127.0.0.1")),
        (SIGNATURE + b"\x20\x00\x00\x00", IPv4Address("127.0.0.1")),
    ],
)
async def test_the_client_behind_a_proxy(tmp_path: Path, header: bytes, client_ip: IPv4Address | IPv6Address) -> None:
    receiver = ScriptedReceiver()
    async with open_door(door_settings(tmp_path, proxy_protocol=True), receiver) as door:
        client = await Client.connect(door.addresses[0])
        client.send(header)
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("250")
        await client.close()
    assert receiver.envelopes[0].client_ip == client_ip


@pytest.mark.parametrize(
    "header",
    [
        b"EHLO client.test\r\n",
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 999.0.2.7 192.0.2.1 40000 25\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x31\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x02\x00\x00",
    ],
)
async def test_no_header_no_session(tmp_path: Path, header: bytes) -> None:
    async with open_door(door_settings(tmp_path, proxy_protocol=True), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        client.send(header)
        assert await client.ended()
        await client.close()


@pytest.mark.parametrize("together", [True, False])
async def test_tls_behind_a_proxy(tmp_path: Path, together: bool) -> None:
    """The handshake may come in one piece with the header."""
    receiver = ScriptedReceiver()
    settings = door_settings(tmp_path, proxy_protocol=True, listen=[], submissions_listen=["127.0.0.1:0"])
    async with open_door(settings, receiver) as door:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        handshake = trusting().wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            handshake.do_handshake()
        hello = outgoing.read()
        client = await Client.connect(door.addresses[0])
        client.send(version_2(1, "192.0.2.7") + (hello if together else b""))
        if not together:
            await asyncio.sleep(0.02)
            client.send(hello)
        greeting = b""
        async with asyncio.timeout(5):
            while not greeting:
                incoming.write(await client.reader.read(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    handshake.do_handshake()
                    greeting = handshake.read()
                client.send(outgoing.read())
        assert greeting.startswith(b"220 ")
        await client.close()


async def test_a_stranger_is_whom_he_connects_as(tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    settings = door_settings(tmp_path, proxy_protocol=True, proxy_networks=["192.0.2.0/24", "2001:db8::/32"])
    async with open_door(settings, receiver) as door:
        honest = await Client.connect(door.addresses[0])
        await honest.hello()
        assert (await honest.mail(b"Subject: x\r\n")).startswith("250")
        liar = await Client.connect(door.addresses[0])
        assert (await liar.reply()).startswith("220")
        assert (await liar.say("PROXY TCP4 192.0.2.7 192.0.2.1 40000 25")).startswith("500 5.5.1")
        await honest.close()
        await liar.close()
    assert str(receiver.envelopes[0].client_ip) == "127.0.0.1"


async def test_nobody_is_believed_unless_the_setting_says_so(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        assert (await client.reply()).startswith("220")
        assert (await client.say("PROXY TCP4 192.0.2.7 192.0.2.1 40000 25")).startswith("500 5.5.1")
        await client.close()
