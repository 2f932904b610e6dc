"""DANE with a resolver that validates: unbound over a zone that was signed for the test (RFC 7672, RFC 4035)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from clawmail.net.resolver import DnsResolver
from clawmail.store import policies
from clawmail.store.db import Database
from tests.support import unbound
from tests.support.certificates import Identity, make_host
from tests.support.outgoing import events_of, make_settings, make_worker, queue, reached, running, settled
from tests.support.smtp_sink import SmtpSink
from tests.support.tenants import Tenant
from tests.support.unbound import SignedZone, validating

pytestmark = pytest.mark.skipif(bool(unbound.missing()), reason=unbound.missing())

BOB = ["bob@there.test"]
HOST = "mx.there.test"
#: a key that nobody has.
WRONG = f"3 1 1 {hashlib.sha256(b'another key').hexdigest()}"


@pytest.fixture(scope="module")
def identity() -> Identity:
    """What the host shows: a certificate of its own making, for another name; DANE-EE looks at the key alone."""
    return make_host("any.name")


def tlsa_of(identity: Identity) -> str:
    return f"3 1 1 {hashlib.sha256(identity.spki).hexdigest()}"


def zone_of(port: int, tlsa: str | None) -> SignedZone:
    records: dict[str, dict[str, list[str]]] = {"there.test": {"MX": [f"10 {HOST}."]}, HOST: {"A": ["127.0.0.1"]}}
    if tlsa is not None:
        records[f"_{port}._tcp.{HOST}"] = {"TLSA": [tlsa]}
    return SignedZone("test", records)


@asynccontextmanager
async def resolving(zone: SignedZone) -> AsyncIterator[DnsResolver]:
    async with validating(zone) as nameserver:
        resolver = DnsResolver([nameserver])
        try:
            yield resolver
        finally:
            await resolver.close()


async def tls_counts(db: Database) -> list[tuple[str, str, str, int]]:
    """What a TLS report about there.test would tell: policy, host, result, sessions."""
    async with db.connection() as conn:
        return await policies.tls_of_day(conn, datetime.now(UTC).date(), "there.test")


async def deferred(db: Database, tenant: Tenant, resolver: DnsResolver, port: int) -> Any:
    """The row of a mail to Bob, after it was put off."""
    settings = make_settings(port, retry_schedule_seconds=[3600])
    async with running(make_worker(db, resolver, settings)):
        (row,) = await reached(db, (await queue(db, tenant, BOB))[1], "deferred")
    return row


async def test_the_resolver_says_what_it_validated(identity: Identity) -> None:
    zone = zone_of(25, tlsa_of(identity))
    zone.forge(HOST, "A", ["127.0.0.9"])
    async with resolving(zone) as resolver:
        found = await resolver.tlsa(f"_25._tcp.{HOST}")
        assert (found.found, found.authenticated) == (True, True)
        # RFC 4035 section 5.4: that there is nothing is proved as well.
        for absent in (await resolver.mx("nobody.test"), await resolver.tlsa(f"_26._tcp.{HOST}")):
            assert (absent.found, absent.failed, absent.authenticated) == (False, False, True)
        assert (await resolver.a(HOST)).failed


async def test_mail_goes_to_the_key_that_the_zone_names(db: Database, tenant: Tenant, identity: Identity) -> None:
    async with (
        SmtpSink(tls=identity.server_context()) as mx,
        resolving(zone_of(mx.port, tlsa_of(identity))) as resolver,
        running(make_worker(db, resolver, make_settings(mx.port))),
    ):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], mx.messages[0].tls) == ("delivered", "TLSv1.3")
    assert (await events_of(db, row["id"]))[-1][1]["tls"]["verified"] == "dane"
    assert await tls_counts(db) == [("tlsa", HOST, "successful", 1)]


async def test_another_key_gets_no_mail(db: Database, tenant: Tenant, identity: Identity) -> None:
    async with SmtpSink(tls=identity.server_context()) as mx, resolving(zone_of(mx.port, WRONG)) as resolver:
        row = await deferred(db, tenant, resolver, mx.port)
    assert mx.messages == []
    assert "TLSA" in row["last_reply"]
    assert await tls_counts(db) == [("tlsa", HOST, "validation-failure", 1)]


async def test_a_host_that_names_a_key_and_offers_no_tls_gets_no_mail(
    db: Database, tenant: Tenant, identity: Identity
) -> None:
    async with SmtpSink() as mx, resolving(zone_of(mx.port, tlsa_of(identity))) as resolver:
        row = await deferred(db, tenant, resolver, mx.port)
    assert mx.messages == []
    assert "STARTTLS" in row["last_reply"]


async def test_tlsa_records_with_a_bad_signature_put_mail_off(db: Database, tenant: Tenant, identity: Identity) -> None:
    async with SmtpSink(tls=identity.server_context()) as mx:
        zone = zone_of(mx.port, WRONG)
        # Somebody on the way put the key of his own host in, and cannot sign for it.
        zone.forge(f"_{mx.port}._tcp.{HOST}", "TLSA", [tlsa_of(identity)])
        async with resolving(zone) as resolver:
            row = await deferred(db, tenant, resolver, mx.port)
    assert mx.messages == []
    assert row["last_reply"].startswith("451 4.7.5 TLSA records of mx.there.test: ")
    assert await tls_counts(db) == [("tlsa", HOST, "dnssec-invalid", 1)]


async def test_an_mx_with_a_bad_signature_puts_mail_off(db: Database, tenant: Tenant) -> None:
    async with SmtpSink() as mx:
        zone = zone_of(mx.port, None)
        zone.forge("there.test", "MX", ["10 ns.test."])
        async with resolving(zone) as resolver:
            row = await deferred(db, tenant, resolver, mx.port)
    assert mx.messages == []
    assert row["last_reply"].startswith("451 4.4.3 MX of there.test: ")


async def test_a_signed_zone_without_tlsa_records_asks_for_nothing(db: Database, tenant: Tenant) -> None:
    async with (
        SmtpSink() as mx,
        resolving(zone_of(mx.port, None)) as resolver,
        running(make_worker(db, resolver, make_settings(mx.port))),
    ):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], mx.messages[0].tls) == ("delivered", "")
