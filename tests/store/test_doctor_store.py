"""The doctor on databases, queues and domains whose illness is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clawmail.base.secrets import load_keyring
from clawmail.core.dkim_keys import DkimKeys
from clawmail.core.dns_setup import host_of, inspect
from clawmail.net.resolver import DnsResolver
from clawmail.store.db import Database
from tests.support import mail
from tests.support.dns_server import DnsServer, Fault
from tests.support.tenants import Tenant
from tests.support.ward import Ward, healthy_dns
from tests.support.webhooks import add_webhook


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with healthy_dns() as server:
        yield server


@pytest.fixture
def ward(dns: DnsServer, tmp_path: Path) -> Ward:
    return Ward(dns, tmp_path)


async def test_the_database_and_the_queue(ward: Ward, db: Database, tenant: Tenant) -> None:
    ward.db = db
    careless = await ward.one("database")
    assert (careless.level, "fsync" in careless.text) == ("warn", True), "the tests' own server does not write through"
    assert {(await ward.one(check)).level for check in ("clock", "queue", "destinations", "leases")} == {"ok"}

    await mail.file(db, tenant, direction="outbound", recipients=("a@x.test", "b@y.test", "c@z.test"))
    async with db.connection() as conn:
        await conn.execute(
            "UPDATE deliveries SET next_attempt_at = now() - interval '1 hour' WHERE recipient = 'a@x.test'"
        )
        await conn.execute("UPDATE deliveries SET state = 'held' WHERE recipient = 'b@y.test'")
        await conn.execute(
            "UPDATE deliveries SET state = 'leased', lease_owner = gen_random_uuid(),"
            " lease_until = now() - interval '5 min' WHERE recipient = 'c@z.test'"
        )
    late, held = [finding for finding in await ward.examine() if finding.check == "queue"]
    assert (late.level, "due for 60 minutes" in late.text) == ("warn", True)
    assert "1 deliveries are held" in held.text
    assert (await ward.one("leases")).level == "warn"

    async with db.connection() as conn:
        await conn.execute(
            "INSERT INTO destinations (name, site, parked_until, problem, updated_at)"
            " VALUES ('x.test', 'x.test', now() + interval '1 min', 'nobody answers', now())"
        )
    parked = await ward.one("destinations")
    assert (parked.level, "nobody answers" in parked.text) == ("warn", True)
    assert parked.fix == "clawmail queue resume x.test"
    assert (await ward.one("queue")).text.startswith("1 deliveries are held"), "a parked one is not late"


async def test_the_disk_of_a_database_of_ones_own(ward: Ward, db: Database) -> None:
    ward.db = db
    assert "database_disk" not in {finding.check for finding in await ward.examine()}
    ward.sections["database"] = {"url": db.url}
    found = await ward.one("database_disk")
    async with db.connection() as conn:
        assert await conn.fetchval("SHOW data_directory") in found.text
    assert found.level in ("ok", "warn")


async def test_dkim_keys_that_do_not_open(ward: Ward, db: Database, tenant: Tenant, tmp_path: Path) -> None:
    ward.db = db
    await published(ward, db, tenant)
    opened = await ward.one("dkim_keys", tenant.domain.name)
    assert (opened.level, "(1)" in opened.text) == ("ok", True)
    ward.sections["server"]["secret_key"] = "ab" * 32
    closed = await ward.one("dkim_keys", tenant.domain.name)
    assert (closed.level, "._domainkey.example.test" in closed.text) == ("fail", True)
    assert "Restore" in closed.fix


async def test_webhook_secrets_that_do_not_open(ward: Ward, db: Database, tenant: Tenant) -> None:
    ward.db = db
    keyring = load_keyring("", ward.data_dir)
    hook = await add_webhook(db, tenant)
    change = "UPDATE webhooks SET secret_sealed = $2, old_secret_sealed = $3, old_secret_until = $4 WHERE id = $1"
    good, until = keyring.seal(b"s", bound_to=hook.bytes), datetime.now(UTC) + timedelta(hours=1)
    async with db.connection() as conn:
        await conn.execute(change, hook, good, b"nonsense", until - timedelta(hours=2))
    opened = await ward.one("webhook_secrets")
    assert (opened.level, "(1)" in opened.text) == ("ok", True), "a secret that signs no more need not open"
    async with db.connection() as conn:
        await conn.execute(change, hook, good, b"nonsense", until)
    assert (await ward.one("webhook_secrets")).level == "fail"
    async with db.connection() as conn:
        await conn.execute(change, hook, keyring.seal(b"s", bound_to=tenant.domain.id.bytes), None, None)
    closed = await ward.one("webhook_secrets")
    assert (closed.level, f"{hook} of example.test" in closed.text) == ("fail", True)
    assert "rotate" in closed.fix


async def published(ward: Ward, db: Database, tenant: Tenant) -> None:
    """A DKIM key for the tenant's domain, and all six records as they should be."""
    resolver = DnsResolver([ward.dns.nameserver], timeout_seconds=2, max_entries=1)
    keyring = load_keyring("", ward.data_dir)
    keys = DkimKeys(db, keyring=keyring, resolver=resolver, changed=lambda _: None)
    key = await keys.active(tenant.domain, datetime.now(UTC))
    for record in await inspect(resolver, tenant.domain, [key], host_of("mx", "127.0.0.1")):
        value = record.value if record.priority is None else f"{record.priority} {record.value}"
        ward.dns.set(record.name, record.type, [value])
    await resolver.close()


async def test_a_domain_whose_records_are_right(ward: Ward, db: Database, tenant: Tenant) -> None:
    ward.db = db
    await published(ward, db, tenant)
    found = [finding for finding in await ward.examine() if finding.domain == tenant.domain.name]
    assert {f.check for f in found if f.level == "ok"} == {"verification", "mx", "address", "dkim", "spf", "dmarc"}
    assert [finding for finding in found if finding.level == "fail"] == []


async def test_a_domain_whose_records_are_wrong(ward: Ward, db: Database, tenant: Tenant, dns: DnsServer) -> None:
    """On a domain that was proved by DNS; of one that is trusted, mail may take another way in."""
    ward.db = db
    await published(ward, db, tenant)
    name = tenant.domain.name
    dns.remove(name)
    dns.remove(f"mx.{name}")
    dns.remove(f"_dmarc.{name}")
    dns.remove(f"_clawmail.{name}")
    dns.set(name, "TXT", ["v=spf1 ip4:192.0.2.1 -all"])

    async def levels() -> dict[str, str]:
        """The first finding of each check is the record's own; the linter's follow."""
        found = [finding for finding in await ward.examine(name) if finding.domain == name]
        return {finding.check: finding.level for finding in reversed(found)}

    trusted = await levels()
    harmless = {"verification": "warn", "mx": "warn", "address": "warn", "dmarc": "warn"}
    assert {check: trusted[check] for check in harmless} == harmless
    assert trusted["spf"] == "fail"
    async with db.connection() as conn:
        await conn.execute("UPDATE domains SET trusted = false")
    proved = await levels()
    assert (proved["mx"], proved["address"], proved["dkim"]) == ("fail", "fail", "ok")


async def test_a_domain_that_cannot_be_looked_up(ward: Ward, db: Database, tenant: Tenant, dns: DnsServer) -> None:
    """Nobody knows is not the same as missing."""
    ward.db = db
    dns.fault("*", Fault(rcode="SERVFAIL"))
    found = [finding for finding in await ward.examine() if finding.domain == tenant.domain.name]
    assert {(finding.level, "cannot be looked up" in finding.text) for finding in found} == {("warn", True)}


async def test_the_linter_says_what_is_unwise(ward: Ward, db: Database, tenant: Tenant, dns: DnsServer) -> None:
    ward.db = db
    name = tenant.domain.name
    lookups = " ".join(f"include:s{number}.{name}" for number in range(12))
    dns.set(name, "TXT", [f"v=spf1 {lookups} ip4:127.0.0.1 ~all"])
    for number in range(12):
        dns.set(f"s{number}.{name}", "TXT", ["v=spf1 ip4:192.0.2.1 -all"])
    dns.set(f"_dmarc.{name}", "TXT", ["v=DMARC1; p=none; rua=nonsense"])
    found = [finding for finding in await ward.examine(name) if finding.domain == name]
    assert any(
        "12/10" in f.text or "too many" in f.text.lower() for f in found if f.check == "spf" and f.level == "fail"
    ), found
    assert any("nonsense" in f.text for f in found if f.check == "dmarc"), found
    dns.set(f"_dmarc.{name}", "TXT", [f"v=DMARC1; p=none; rua=mailto:dmarc@{name}"])
    found = [finding for finding in await ward.examine(name) if finding.check == "dmarc" and finding.level == "warn"]
    assert ["quarantine" in f.fix for f in found if "unenforced" in f.text] == [True]


async def test_domains_that_are_not_here(ward: Ward, db: Database) -> None:
    ward.db = db
    nothing = await ward.one("domain")
    assert (nothing.level, nothing.fix) == ("warn", "clawmail domain add NAME")
    found = [finding for finding in await ward.examine("stranger.test") if finding.domain == "stranger.test"]
    assert [(finding.level, finding.fix) for finding in found] == [("fail", "clawmail domain add stranger.test")]
