"""Certificates: the self-signed one, the operator's, one for each name, and their renewal while the door is open."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from clawmail.base.log import configure
from clawmail.smtpd import selfsigned, tls
from clawmail.smtpd.selfsigned import self_signed
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door, trusting


def pair(folder: Path, name: str, chain: str, key: str) -> None:
    """A certificate for ``name``, chain and key in files of their own."""
    text = self_signed(folder / ".made" / os.urandom(4).hex(), name).read_text()
    begin = text.index("-----BEGIN PRIVATE KEY")
    (folder / chain).parent.mkdir(parents=True, exist_ok=True)
    (folder / chain).write_text(text[:begin])
    (folder / key).write_text(text[begin:])


async def names_shown(address: tuple[str, int], server_name: str | None = None, **tls_settings: object) -> list[str]:
    """The names of the certificate that STARTTLS shows to a client that asks for ``server_name``."""
    client = await Client.connect(address)
    await client.hello()
    assert (await client.say("STARTTLS")).startswith("220")
    context = trusting()
    for name, value in tls_settings.items():
        setattr(context, name, value)
    # The name given to the handshake is the one SNI carries.
    transport = await asyncio.get_running_loop().start_tls(
        client.writer.transport,
        client.writer.transport.get_protocol(),
        context,
        server_hostname=server_name or "",
    )
    assert transport is not None
    shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
    transport.abort()
    certificate = x509.load_der_x509_certificate(shown)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


async def test_a_certificate_is_always_there(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        assert await names_shown(door.addresses[0]) == ["mx.example.test"]
    file = tmp_path / "tls" / "mx.example.test.pem"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = file.read_bytes()
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        assert await names_shown(door.addresses[0]) == ["mx.example.test"]
    assert file.read_bytes() == kept


@pytest.mark.parametrize(
    ("settings", "names", "self_signed_here"),
    [
        ({}, ["mx.example.test"], True),
        ({"tls_cert": "own.pem", "tls_key": "own.key"}, ["own.test"], False),
        ({"tls_dir": "more"}, ["a.test", "mx.example.test"], True),
        ({"tls_dir": "main"}, ["mx.example.test"], False),
    ],
)
async def test_the_log_says_what_the_certificates_are_for(
    tmp_path: Path, settings: dict[str, str], names: list[str], self_signed_here: bool
) -> None:
    pair(tmp_path, "own.test", "own.pem", "own.key")
    pair(tmp_path / "more", "a.test", "a.pem", "a.key")
    pair(tmp_path / "main", "mx.example.test", "x.pem", "x.key")
    places: dict[str, Any] = {name: str(tmp_path / place) for name, place in settings.items()}
    configure("info", "json")  # a command that was tried before may have wanted less
    with capture_logs() as lines:
        async with open_door(door_settings(tmp_path, **places), ScriptedReceiver()) as door:
            door.reload_certificates()
    told = [line for line in lines if line["event"] == "certificates loaded"]
    assert [(line["names"], line["count"], line["self_signed"]) for line in told] == [
        (names, len(names), self_signed_here)
    ] * 2


def test_two_processes_that_start_at_once_have_one_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = selfsigned._make

    def make_while_another_does(*args: object) -> bytes:
        monkeypatch.setattr(selfsigned, "_make", make)
        self_signed(tmp_path, "mx.example.test")
        return make(*args)  # type: ignore[arg-type]  # passed through as they came

    monkeypatch.setattr(selfsigned, "_make", make_while_another_does)
    path = self_signed(tmp_path, "mx.example.test")
    assert [entry.name for entry in path.parent.iterdir()] == ["mx.example.test.pem"]
    ssl.create_default_context().load_cert_chain(path)


async def test_sni_chooses_among_pairs_in_every_layout(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    pair(folder, "mx.one.test", "mx.one.test.pem", "mx.one.test.key")
    pair(folder, "mx.two.test", "live/fullchain.pem", "live/privkey.pem")
    pair(folder, "mx.three.test", "mx.three.test/mx.three.test.crt", "mx.three.test/mx.three.test.key")
    pair(folder, "*.four.test", "four.pem", "four-key.pem")
    (folder / "broken.pem").write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n")
    (folder / "README").write_text("no certificate")
    async with open_door(door_settings(tmp_path, tls_dir=str(folder)), ScriptedReceiver()) as door:
        address = door.addresses[0]
        for name in ("mx.one.test", "mx.two.test", "mx.three.test"):
            assert await names_shown(address, name) == [name]
        assert await names_shown(address, "MX.Four.Test") == ["*.four.test"]
        # An unknown name, or none, gets the main certificate.
        assert await names_shown(address, "mx.unknown.test") == ["mx.example.test"]
        assert await names_shown(address) == ["mx.example.test"]


async def test_a_directory_that_is_not_there_yet_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    async with open_door(door_settings(tmp_path, tls_dir=str(folder)), ScriptedReceiver()) as door:
        assert await names_shown(door.addresses[0], "mx.one.test") == ["mx.example.test"]
        pair(folder, "mx.one.test", "one.pem", "one.key")
        door.reload_certificates()
        assert await names_shown(door.addresses[0], "mx.one.test") == ["mx.one.test"]


async def test_a_pair_for_the_servers_own_name_is_the_main_one(tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    pair(folder, "mx.example.test", "a.pem", "a.key")
    async with open_door(door_settings(tmp_path, tls_dir=str(folder)), ScriptedReceiver()) as door:
        assert await names_shown(door.addresses[0]) == ["mx.example.test"]
    assert not (tmp_path / "tls").exists()


async def test_renewed_files_are_seen_and_broken_ones_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "WATCH_SECONDS", 0.02)
    pair(tmp_path, "old.test", "cert.pem", "key.pem")
    settings = door_settings(tmp_path, tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
    async with open_door(settings, ScriptedReceiver()) as door:
        open_before = await Client.connect(door.addresses[0])
        await open_before.hello()
        assert await names_shown(door.addresses[0]) == ["old.test"]
        (tmp_path / "cert.pem").write_text("half a certif")
        door.reload_certificates()
        assert await names_shown(door.addresses[0]) == ["old.test"]
        pair(tmp_path, "new.test", "cert.pem", "key.pem")
        async with asyncio.timeout(10):
            while await names_shown(door.addresses[0]) != ["new.test"]:
                await asyncio.sleep(0.02)
        # A session that was there before is not disturbed, and shakes hands with the new one.
        await open_before.starttls()
        assert (await open_before.say("EHLO client.test")).startswith("250")
        await open_before.close()


async def test_a_door_does_not_open_without_the_certificate_it_was_given(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, tls_cert=str(tmp_path / "none.pem"), tls_key=str(tmp_path / "none.key"))
    with pytest.raises(OSError, match=r"none\.pem with key .*none\.key: No such file"):
        async with open_door(settings, ScriptedReceiver()):
            pass
    # The two are not a pair: OpenSSL says so, and we say which two.
    pair(tmp_path, "one.test", "none.pem", "one.key")
    pair(tmp_path, "other.test", "other.pem", "none.key")
    with pytest.raises(OSError, match=r"none\.pem with key .*none\.key: .*key values mismatch"):
        async with open_door(settings, ScriptedReceiver()):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_spoken(tmp_path: Path, version: ssl.TLSVersion) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        assert await names_shown(door.addresses[0], maximum_version=version, minimum_version=version)


async def test_older_versions_are_not_spoken(tmp_path: Path) -> None:
    settings = door_settings(tmp_path)
    async with open_door(settings, ScriptedReceiver()) as door:
        context = door._certificates.context
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("tickets", [True, False])
async def test_session_tickets_are_a_setting(tmp_path: Path, tickets: bool) -> None:
    async with open_door(door_settings(tmp_path, tls_session_tickets=tickets), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        await client.starttls()
        # TLS 1.3 tickets come behind the handshake, with the first data.
        await client.say("EHLO client.test")
        session = client.writer.get_extra_info("ssl_object").session
        assert session.has_ticket == tickets
        await client.close()


async def test_a_failed_handshake_ends_the_session(tmp_path: Path) -> None:
    async with open_door(door_settings(tmp_path), ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.say("STARTTLS")).startswith("220")
        client.send(b"this is no handshake\r\n" * 10)
        async with asyncio.timeout(5):
            while door.sessions:
                await asyncio.sleep(0.01)
        await client.close()


async def test_tls_from_the_first_octet(tmp_path: Path) -> None:
    settings = door_settings(tmp_path, listen=[], submissions_listen=["127.0.0.1:0"])
    async with open_door(settings, ScriptedReceiver()) as door:
        client = await Client.connect(door.addresses[0], tls=True)
        assert "250 AUTH PLAIN LOGIN" in (await client.hello()).splitlines()
        await client.close()
