"""The doctor on patients whose illness is known: real name server, database, sockets and certificates."""

from __future__ import annotations

import os
import shutil
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clawmail.base.secrets import load_keyring
from clawmail.core.doctor import examine as doctor
from clawmail.core.doctor import host as doctor_host
from clawmail.core.doctor.findings import Finding
from clawmail.smtpd.selfsigned import self_signed
from tests.support.dns_server import DnsServer, Fault
from tests.support.smtp_sink import SmtpSink
from tests.support.ward import HOST, Ward, healthy_dns


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with healthy_dns() as server:
        yield server


@pytest.fixture
def ward(dns: DnsServer, tmp_path: Path) -> Ward:
    return Ward(dns, tmp_path)


def chain(
    folder: Path, *, name: str = HOST, begins: timedelta = timedelta(days=-1), ends: timedelta = timedelta(days=90)
) -> dict[str, str]:
    """A certificate of an authority that nobody knows, and its key, as settings of the door."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody's authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "chain.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return {"tls_cert": str(folder / "chain.pem"), "tls_key": str(folder / "key.pem")}


async def test_names_and_addresses(ward: Ward, dns: DnsServer) -> None:
    assert (await ward.one("hostname")).level == "ok"
    assert (await ward.one("reverse_name")).level == "ok"
    assert (await ward.one("resolver")).level == "ok"
    assert (await ward.one("configuration")).text == f"this server is {HOST}"

    dns.set(HOST, "A", ["192.0.2.1"])
    wrong = await ward.one("hostname")
    assert (wrong.level, "192.0.2.1" in wrong.text) == ("fail", True)
    assert wrong.fix == f"Publish: {HOST} A 127.0.0.1 (or correct server.public_ip)."
    assert (await ward.one("reverse_name")).level == "fail", "the name does not lead back"
    dns.remove(HOST)
    assert "has no address" in (await ward.one("hostname")).text

    dns.set("other.test", "A", ["127.0.0.1"])
    dns.set("1.0.0.127.in-addr.arpa", "PTR", ["other.test"])
    named = await ward.one("reverse_name")
    assert (named.level, "other.test" in named.text, HOST in named.fix) == ("warn", True, True)
    dns.remove("1.0.0.127.in-addr.arpa")
    missing = await ward.one("reverse_name")
    assert (missing.level, "refuse mail" in missing.text) == ("fail", True)

    ward.sections["server"]["hostname"] = "mailserver"
    assert (await ward.one("hostname")).level == "fail"


async def test_the_resolver(ward: Ward, dns: DnsServer) -> None:
    dns.authenticated = False
    careless = await ward.one("resolver")
    assert (careless.level, "unbound" in careless.fix) == ("warn", True)
    dns.remove("signed.test")
    assert "not the public DNS" in (await ward.one("resolver")).text
    dns.fault("*", Fault(rcode="SERVFAIL"))
    broken = {finding.check: finding for finding in await ward.examine()}
    assert broken["resolver"].level == "fail"
    assert "dns.nameservers" in broken["resolver"].fix
    assert (broken["hostname"].level, broken["reverse_name"].level) == ("fail", "warn")
    assert broken["port_25_out"].level == "warn", "that nobody was found says nothing of the port"


async def test_a_silent_name_server_does_not_hold_the_doctor_up(
    ward: Ward, dns: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far more patience of the resolver than of the checks: each ends on its own limit, all at the same time."""
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.3)
    ward.dns_seconds = 3600
    dns.fault("*", Fault(silent=True))
    findings = {finding.check: finding for finding in await ward.examine()}
    for check in ("resolver", "hostname", "reverse_name", "port_25_out"):
        assert (findings[check].level, "within" in findings[check].text) == ("warn", True)
    assert findings["disk"].level == "ok"


async def test_port_25_out(ward: Ward) -> None:
    async with SmtpSink() as sink:
        ward.sections["outbound"] = {"port": sink.port}
        open_port = await ward.one("port_25_out")
        assert (open_port.level, "big.test" in open_port.text) == ("ok", True)
        ward.sections["outbound"]["source_ip"] = "127.0.0.9"
        assert [f.level for f in await ward.examine() if f.check == "port_25_out"] == ["ok"]
        assert sink.connections == 2
    ward.sections["outbound"].pop("source_ip")
    closed = await ward.one("port_25_out")
    assert (closed.level, "refused" in closed.text, "provider" in closed.fix) == ("fail", True, True)


async def test_a_door_that_says_nothing_counts_as_closed(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_host, "CONNECT_SECONDS", 0.2)
    async with SmtpSink(silent="CONNECT") as sink:
        ward.sections["outbound"] = {"port": sink.port}
        ward.inbound_port = sink.port
        findings = {finding.check: finding for finding in await ward.examine()}
    assert "no answer" in findings["port_25_out"].text
    assert "no answer" in findings["port_25_in"].text


async def test_port_25_in(ward: Ward) -> None:
    async with SmtpSink(replies={"CONNECT": f"220 {HOST} ESMTP"}) as sink:
        ward.inbound_port = sink.port
        found = [finding for finding in await ward.examine() if finding.check == "port_25_in"]
    assert [finding.level for finding in found] == ["ok", "warn"], "well, but loopback is not the internet"
    assert "from inside" in found[0].text
    async with SmtpSink(replies={"CONNECT": "220 somebody.test ESMTP Postfix"}) as sink:
        ward.inbound_port = sink.port
        other = await ward.one("port_25_in")
    assert (other.level, "another server" in other.text) == ("fail", True)
    gone = await ward.one("port_25_in")
    assert (gone.level, "Connection refused" in gone.text) == ("fail", True)


async def test_certificates(ward: Ward, tmp_path: Path) -> None:
    assert (await ward.one("certificate")).level == "warn", "there is none"
    self_signed(tmp_path, HOST)
    own = await ward.one("certificate")
    assert (own.level, "self-signed" in own.text) == ("warn", True)

    async def judged(**change: Any) -> Finding:
        ward.sections["smtp"] = chain(tmp_path, **change)
        return await ward.one("certificate")

    unknown = await judged()
    assert (unknown.level, "no public authority" in unknown.text) == ("warn", True)
    expired = await judged(begins=timedelta(days=-9), ends=timedelta(days=-1))
    assert (expired.level, "expired" in expired.text, "Renew" in expired.fix) == ("fail", True, True)
    assert "not valid before" in (await judged(begins=timedelta(days=2))).text
    assert "only" in (await judged(ends=timedelta(days=3))).text
    other = await judged(name="mx.other.test")
    assert (other.level, f"is for mx.other.test, not for {HOST}" in other.text) == ("fail", True)
    assert "no public authority" in (await judged(name="*.here.test")).text, "a wildcard stands for a label"
    Path(ward.sections["smtp"]["tls_key"]).write_text("no key")
    assert "does not load" in (await ward.one("certificate")).text


async def test_a_certificate_of_a_known_authority_is_well(
    ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An authority of our own, known to the system for once, signs for our name."""
    now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])

    def build(subject: x509.Name, of: Any) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(of.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=60))
        )

    root = (
        build(authority, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        build(x509.Name([]), leaf_key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path / "tls" / HOST
    folder.mkdir(parents=True)
    (folder / "fullchain.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    trusting = ssl.create_default_context()
    trusting.load_verify_locations(cadata=root.public_bytes(serialization.Encoding.DER))
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    ward.sections["smtp"] = {"tls_dir": str(tmp_path / "tls")}
    found = await ward.one("certificate")
    assert (found.level, HOST in found.text, found.fix) == ("ok", True, "")


async def test_the_secret_key_and_the_disk(ward: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ward.one("secret_key")).level == "warn", "made at the first start"
    load_keyring("", tmp_path)
    assert (await ward.one("secret_key")).level == "ok"
    (tmp_path / "secret.key").chmod(0o644)
    loose = await ward.one("secret_key")
    assert (loose.level, loose.fix) == ("warn", f"chmod 600 {tmp_path}/secret.key")
    (tmp_path / "secret.key").write_text("short")
    assert (await ward.one("secret_key")).level == "fail"
    ward.sections["server"]["secret_key"] = "ab" * 32
    assert (await ward.one("secret_key")).level == "ok"

    assert (await ward.one("disk")).level in ("ok", "warn")
    usage = os.statvfs_result((4096, 4096, 1000, 20, 20, 1000, 5, 5, 0, 255))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=1000, used=980, free=20))
    monkeypatch.setattr(os, "statvfs", lambda _: usage)
    space, inodes = [finding for finding in await ward.examine() if finding.check == "disk"]
    assert (space.level, inodes.level) == ("fail", "warn")
    assert "inodes" in inodes.text
    monkeypatch.undo()
    ward.data_dir = tmp_path / "missing"
    assert (await ward.one("disk")).level == "fail"


async def test_the_configuration(ward: Ward) -> None:
    ward.sections["server"] = {"app_domain": "localhost"}
    ward.sections["api"] = {"listen": ["127.0.0.1:3000", "0.0.0.0:3000"]}
    ward.sections["limits"] = {"enabled": False}
    found = [finding for finding in await ward.examine() if finding.check == "configuration"]
    assert [finding.level for finding in found] == ["fail", "warn", "warn"]
    assert "0.0.0.0:3000 may register" in found[1].text
    assert "127.0.0.1:3000" not in found[1].text


async def test_without_a_database_the_rest_is_looked_at(ward: Ward) -> None:
    findings = await ward.examine("example.test")
    assert [finding.level for finding in findings if finding.check == "database"] == ["fail"]
    assert "hostname" in {finding.check for finding in findings}
