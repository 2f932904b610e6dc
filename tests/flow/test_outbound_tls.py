"""TLS towards MX hosts: opportunistic, demanded by MTA-STS, by DANE and by the message itself."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from clawmail.core.outbound import mta_sts
from clawmail.store import policies
from clawmail.store.db import Database
from tests.support.certificates import Identity, make_authority, make_host
from tests.support.outgoing import events_of, make_settings, make_worker, mx_zone, queue, running, settled
from tests.support.smtp_sink import EXTENSIONS, SmtpSink
from tests.support.tenants import Tenant
from tests.support.zones import ScriptedResolver

BOB = ["bob@there.test"]
HOST = "mx.there.test"


@pytest.fixture(scope="module")
def authority() -> Identity:
    return make_authority()


@pytest.fixture
def trusted(authority: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's authorities are this one."""
    file = tmp_path / "authorities.pem"
    file.write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


@contextlib.asynccontextmanager
async def policy_server(
    text: str, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[str]]:
    """Serves an MTA-STS policy over HTTPS; yields the paths asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=text)

    application = web.Application()
    application.router.add_get("/.well-known/mta-sts.txt", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    url = f"https://mta-sts.{{domain}}:{port}/.well-known/mta-sts.txt"
    monkeypatch.setattr(mta_sts.MtaSts.__init__, "__kwdefaults__", {"policy_url": url})
    try:
        yield asked
    finally:
        await runner.cleanup()


def sts_zone() -> dict[str, dict[str, list[str]]]:
    return {
        **mx_zone(["there.test"]),
        "_mta-sts.there.test": {"TXT": ["v=STSv1; id=1;"]},
        "mta-sts.there.test": {"A": ["127.0.0.1"]},
    }


def policy(mode: str, mx: str) -> str:
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"


async def tls_counts(db: Database) -> list[tuple[str, str, str, int]]:
    async with db.connection() as conn:
        return await policies.tls_of_day(conn, datetime.now(UTC).date(), "there.test")


async def test_tls_is_used_where_it_is_offered(db: Database, tenant: Tenant) -> None:
    sink = SmtpSink(tls=make_host(HOST).server_context())
    async with sink as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert row["state"] == "delivered"
    assert mx.messages[0].tls == "TLSv1.3"
    _, detail = (await events_of(db, row["id"]))[-1]
    assert detail["tls"]["version"] == "TLSv1.3" and detail["tls"]["verified"] is None
    assert await tls_counts(db) == [("no-policy-found", HOST, "successful", 1)]


async def test_tls_with_an_address_literal(db: Database, tenant: Tenant) -> None:
    sink = SmtpSink(tls=make_host(HOST).server_context())
    async with sink as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        await settled(db, (await queue(db, tenant, ["bob@[127.0.0.1]"]))[1])
    assert mx.messages[0].tls == "TLSv1.3"


async def test_broken_tls_is_no_worse_than_none_and_remembered(db: Database, tenant: Tenant) -> None:
    sink = SmtpSink(
        extensions=(*EXTENSIONS, "STARTTLS"), replies={"STARTTLS": "220 go on"}, garbage_after_starttls=True
    )
    async with sink as mx, running(make_worker(db, mx_zone(["there.test"]), make_settings(mx.port))):
        (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
        assert (row["state"], row["attempts"], mx.messages[0].tls) == ("delivered", 1, "")
        stages = [detail["stage"] for kind, detail in await events_of(db, row["id"]) if kind == "attempted"]
        assert stages == ["tls", "dot"]
        await mx.drop_connections()
        await settled(db, (await queue(db, tenant, BOB))[1])
    assert sum(command.startswith("STARTTLS") for command in mx.commands) == 1


@pytest.mark.usefixtures("trusted")
async def test_an_enforced_policy_is_met(
    db: Database, tenant: Tenant, authority: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    web_context = make_host("mta-sts.there.test", by=authority).server_context()
    sink = SmtpSink(tls=make_host(HOST, by=authority).server_context())
    async with policy_server(policy("enforce", "*.there.test"), web_context, monkeypatch) as asked, sink as mx:
        async with running(make_worker(db, sts_zone(), make_settings(mx.port, mta_sts=True))):
            (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
            await settled(db, (await queue(db, tenant, BOB))[1])
        # Another process finds the policy in the database.
        async with running(make_worker(db, sts_zone(), make_settings(mx.port, mta_sts=True))):
            await settled(db, (await queue(db, tenant, BOB))[1])
    assert (row["state"], mx.messages[0].tls) == ("delivered", "TLSv1.3")
    assert (await events_of(db, row["id"]))[-1][1]["tls"]["verified"] == "pkix"
    assert asked == ["/.well-known/mta-sts.txt"]


REFUSALS = {
    "another name": ("*.there.test", "other.test", True, "Hostname mismatch"),
    "unknown authority": ("*.there.test", HOST, False, "certificate verify failed"),
    "not in the policy": ("mx.elsewhere.test", HOST, True, "is not an MX that the MTA-STS policy of there.test names"),
}


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
async def test_a_policy_that_is_not_met(
    db: Database, tenant: Tenant, authority: Identity, monkeypatch: pytest.MonkeyPatch, mode: str, case: str
) -> None:
    pattern, name, signed, words = REFUSALS[case]
    web_context = make_host("mta-sts.there.test", by=authority).server_context()
    sink = SmtpSink(tls=make_host(name, by=authority if signed else None).server_context())
    async with policy_server(policy(mode, pattern), web_context, monkeypatch), sink as mx:
        settings = make_settings(mx.port, mta_sts=True, retry_schedule_seconds=[0.05])
        async with running(make_worker(db, sts_zone(), settings)):
            (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    if mode == "testing":
        assert (row["state"], mx.messages[0].tls) == ("delivered", "TLSv1.3")
    else:
        assert (row["state"], len(mx.messages)) == ("expired", 0)
        assert words in row["last_reply"]
    counted = {(kind, result) for kind, _, result, _ in await tls_counts(db)}
    assert any(kind == "sts" and result != "successful" for kind, result in counted)


def tlsa_of(host: Identity, *, right: bool = True) -> str:
    digest = hashlib.sha256(host.spki if right else b"another key").hexdigest()
    return f"3 1 1 {digest}"


@pytest.mark.parametrize("right", [True, False])
async def test_dane_names_the_key(db: Database, tenant: Tenant, right: bool) -> None:
    host = make_host("any.name")
    async with SmtpSink(tls=host.server_context()) as mx:
        zone = {
            **mx_zone(["there.test"]),
            f"_{mx.port}._tcp.{HOST}": {"TLSA": [tlsa_of(host, right=right)]},
        }
        resolver = ScriptedResolver(zone, authenticated=True)
        settings = make_settings(mx.port, retry_schedule_seconds=[0.05])
        async with running(make_worker(db, resolver, settings)):
            (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    if right:
        assert (row["state"], mx.messages[0].tls) == ("delivered", "TLSv1.3")
        assert (await events_of(db, row["id"]))[-1][1]["tls"]["verified"] == "dane"
    else:
        assert (row["state"], len(mx.messages)) == ("expired", 0)
        assert "TLSA" in row["last_reply"]


async def test_tlsa_records_from_an_unsigned_zone_count_for_nothing(db: Database, tenant: Tenant) -> None:
    async with SmtpSink() as mx:
        zone = {**mx_zone(["there.test"]), f"_{mx.port}._tcp.{HOST}": {"TLSA": ["3 1 1 " + "00" * 32]}}
        async with running(make_worker(db, ScriptedResolver(zone), make_settings(mx.port))):
            (row,) = await settled(db, (await queue(db, tenant, BOB))[1])
    assert row["state"] == "delivered"


async def test_a_message_that_requires_tls_is_not_sent_without(db: Database, tenant: Tenant) -> None:
    async with SmtpSink() as mx:
        settings = make_settings(mx.port, retry_schedule_seconds=[0.05])
        async with running(make_worker(db, mx_zone(["there.test"]), settings)):
            (row,) = await settled(db, (await queue(db, tenant, BOB, options={"require_tls": True}))[1])
    assert (row["state"], len(mx.messages)) == ("expired", 0)
    assert "STARTTLS" in row["last_reply"]
