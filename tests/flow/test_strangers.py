"""Judging strangers with a real database: the tenant's word, lists in the DNS, names, greylisting."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from clawmail.base.errors import Invalid, NotFound
from clawmail.base.ids import new_id
from clawmail.base.settings import Smtp
from clawmail.core.envelope import Recipient, Refused
from clawmail.core.greylist import FORGET_AFTER, RETRY_WINDOW, Greylist
from clawmail.core.sender_rules import SenderRules
from clawmail.core.strangers import Strangers
from clawmail.model.senders import SenderRule
from clawmail.protocol.spf.check import SpfResult
from clawmail.store import strangers as store
from clawmail.store.db import Database
from tests.support.smtp import Client, ScriptedReceiver, door_settings, open_door
from tests.support.tenants import Tenant, add_tenant
from tests.support.zones import ScriptedResolver

CLIENT = ip_address("192.0.2.1")
NAMED = {
    "1.2.0.192.in-addr.arpa": {"PTR": ["mail.sender.test"]},
    "mail.sender.test": {"A": ["192.0.2.1"]},
}


def strangers(db: Database, zone: dict[str, Any] | None = None, **smtp: object) -> Strangers:
    """With these settings and this DNS."""
    return Strangers(msgspec.convert(smtp, Smtp), "mx.example.test", db, ScriptedResolver(zone or {}))


def recipient(tenant: Tenant, local: str = "agent") -> Recipient:
    """The tenant's inbox."""
    return Recipient(f"{local}@{tenant.domain.name}", tenant.inbox, tenant.domain)


async def judged(judge: Strangers, to: Recipient, *, helo: str = "mail.sender.test", spf: str = "none") -> str:
    """The reply to joe@sender.test, "ok" if taken."""
    verdict = SpfResult(spf, "sender.test", "mailfrom")  # type: ignore[arg-type]  # the word is the test's
    try:
        await judge.judge(CLIENT, helo, "joe@sender.test", to, verdict)
    except Refused as refused:
        return f"{refused.code} {refused.enhanced}"
    return "ok"


async def say(
    db: Database, tenant: Tenant, verdict: Literal["allow", "block"], sender: str, *, for_inbox: bool = False
) -> None:
    """A rule of the tenant."""
    async with db.transaction() as conn:
        await store.add_sender_rule(
            conn,
            SenderRule(
                new_id(),
                tenant.organisation_id,
                tenant.domain.id,
                tenant.inbox.id if for_inbox else None,
                verdict,
                sender,
                datetime.now(UTC),
            ),
        )


async def test_by_default_nothing_is_asked_and_everybody_is_taken(db: Database, tenant: Tenant) -> None:
    resolver = ScriptedResolver({})
    judge = Strangers(Smtp(), "mx.example.test", db, resolver)
    assert not judge.wants_spf
    assert await judged(judge, recipient(tenant), helo="localhost") == "ok"
    assert resolver.asked == []


async def test_names_of_clients(db: Database) -> None:
    assert await strangers(db, NAMED).client_name(CLIENT) == "mail.sender.test"
    assert await strangers(db).client_name(CLIENT) == ""


async def test_lists_weigh(db: Database, tenant: Tenant) -> None:
    zone: dict[str, Any] = {
        **NAMED,
        "1.2.0.192.one.test": {"A": ["127.0.0.2"]},
        "1.2.0.192.two.test": {"A": ["127.0.0.3"]},
        "1.2.0.192.good.test": {"A": ["127.0.0.1"]},
    }
    to = recipient(tenant)
    assert await judged(strangers(db, zone, dnsbl=["one.test"]), to) == "550 5.7.1"
    assert await judged(strangers(db, zone, dnsbl=["one.test"], dnsbl_threshold=2), to) == "ok"
    assert await judged(strangers(db, zone, dnsbl=["one.test=2", "two.test=3"], dnsbl_threshold=5), to) == "550 5.7.1"
    assert await judged(strangers(db, zone, dnsbl=["one.test"], dnswl=["good.test"]), to) == "ok"
    assert await judged(strangers(db, zone, dnsbl=["none.test"]), to) == "ok"
    # Whoever is listed by mistake has to be able to say so.
    assert await judged(strangers(db, zone, dnsbl=["one.test"]), recipient(tenant, "postmaster")) == "ok"


async def test_names_may_be_asked_for(db: Database, tenant: Tenant) -> None:
    to = recipient(tenant)
    assert await judged(strangers(db, NAMED, helo_check="reject", fcrdns_check="reject"), to) == "ok"
    assert await judged(strangers(db, NAMED, helo_check="reject"), to, helo="localhost") == "550 5.7.1"
    assert await judged(strangers(db, fcrdns_check="reject"), to) == "550 5.7.25"
    silent = {"1.2.0.192.in-addr.arpa": {"PTR": "SERVFAIL"}}
    assert await judged(strangers(db, silent, fcrdns_check="reject"), to) == "451 4.7.25"


async def test_the_tenant_has_the_last_word(db: Database, tenant: Tenant) -> None:
    listed: dict[str, Any] = {**NAMED, "1.2.0.192.one.test": {"A": ["127.0.0.2"]}}
    await say(db, tenant, "allow", "sender.test")
    assert await judged(strangers(db, listed, dnsbl=["one.test"]), recipient(tenant)) == "ok"
    await say(db, tenant, "block", ".test", for_inbox=True)
    # An inbox's own word counts before its domain's.
    assert await judged(strangers(db), recipient(tenant)) == "550 5.7.1"
    await say(db, tenant, "allow", "joe@sender.test", for_inbox=True)
    assert await judged(strangers(db), recipient(tenant)) == "ok"
    await say(db, tenant, "block", "joe@sender.test", for_inbox=True)
    assert await judged(strangers(db), recipient(tenant)) == "550 5.7.1"


async def test_a_rule_is_taken_back_by_its_domain_only(db: Database, tenant: Tenant) -> None:
    await say(db, tenant, "block", "sender.test")
    async with db.transaction() as conn:
        (rule,) = await store.sender_rules(conn, tenant.domain.id, limit=10)
        assert not await store.remove_sender_rule(conn, rule.id, new_id())
        assert await store.remove_sender_rule(conn, rule.id, tenant.domain.id)
        assert await store.sender_rules(conn, tenant.domain.id, limit=10) == []


class _Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def test_the_first_mail_waits_and_its_network_is_known_after_some(db: Database) -> None:
    clock = _Clock()
    greylist = Greylist(Smtp(greylist_delay_seconds=300, greylist_passes=2), db, now=clock)
    neighbour = ip_address("192.0.2.200")
    with pytest.raises(Refused, match=r"451 4\.7\.1 greylisted, try again in 301 seconds"):
        await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += timedelta(seconds=299)
    with pytest.raises(Refused, match="in 2 seconds"):
        await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += timedelta(seconds=1)
    # It comes back, from another host of the same network and in other letters.
    await greylist.judge(neighbour, "Joe@sender.test", "Agent@example.test")
    await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    with pytest.raises(Refused):
        await greylist.judge(CLIENT, "ann@sender.test", "agent@example.test")
    clock.now += timedelta(seconds=300)
    await greylist.judge(CLIENT, "ann@sender.test", "agent@example.test")
    # Two passes: the network is known.
    await greylist.judge(CLIENT, "new@sender.test", "agent@example.test")
    with pytest.raises(Refused):
        await greylist.judge(ip_address("198.51.100.1"), "new@sender.test", "agent@example.test")


async def test_what_does_not_come_back_is_forgotten(db: Database) -> None:
    clock = _Clock()
    greylist = Greylist(Smtp(greylist_delay_seconds=300), db, now=clock)
    with pytest.raises(Refused):
        await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += RETRY_WINDOW + timedelta(seconds=1)
    with pytest.raises(Refused, match="301 seconds"):
        await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += timedelta(seconds=300)
    await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += RETRY_WINDOW + timedelta(seconds=1)
    await greylist.sweep()
    await greylist.judge(CLIENT, "joe@sender.test", "agent@example.test")
    clock.now += FORGET_AFTER + timedelta(seconds=1)
    await greylist.sweep()
    async with db.connection() as conn:
        assert (
            await conn.fetchval("SELECT (SELECT count(*) FROM greylist) + (SELECT count(*) FROM greylist_networks)")
            == 0
        )


async def test_spf_pass_need_not_wait(db: Database, tenant: Tenant) -> None:
    judge = strangers(db, greylist=True)
    assert judge.wants_spf
    assert await judged(judge, recipient(tenant), spf="pass") == "ok"
    assert await judged(judge, recipient(tenant), spf="softfail") == "451 4.7.1"


async def test_at_the_door(db: Database, tenant: Tenant, tmp_path: Path) -> None:
    receiver = ScriptedReceiver()
    zone: dict[str, Any] = {
        "1.0.0.127.in-addr.arpa": {"PTR": ["localhost.test"]},
        "localhost.test": {"A": ["127.0.0.1"]},
    }
    async with open_door(door_settings(tmp_path), receiver, strangers=strangers(db, zone, greylist=True)) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("451 4.7.1 greylisted")
        await client.close()
    async with open_door(door_settings(tmp_path), receiver, strangers=strangers(db, zone)) as door:
        client = await Client.connect(door.addresses[0])
        await client.hello()
        assert (await client.mail(b"Subject: x\r\n")).startswith("250")
        await client.close()
    assert [envelope.client_name for envelope in receiver.envelopes] == ["localhost.test"]


async def test_a_domain_says_who_is_heard(db: Database, tenant: Tenant) -> None:
    rules, owner, now = SenderRules(db), tenant.principal, datetime.now(UTC)
    said = await rules.say(owner, "block", ".Sender.Test", now)
    assert (said.sender, said.inbox_id) == (".sender.test", None)
    assert await judged(strangers(db), recipient(tenant)) == "550 5.7.1"
    # The last word about the same sender counts, and is the same rule.
    assert await rules.say(owner, "allow", ".sender.test", now) == replace(said, verdict="allow")
    own = await rules.say(owner, "block", "joe@sender.test", now, inbox=tenant.inbox.address.upper())
    assert own.inbox_id == tenant.inbox.id
    assert [rule.id for rule in await rules.all(owner)] == [said.id, own.id]
    await rules.take_back(owner, own.id)
    assert await judged(strangers(db), recipient(tenant)) == "ok"


async def test_whose_rules_they_are(db: Database, tenant: Tenant) -> None:
    rules, now = SenderRules(db), datetime.now(UTC)
    other = await add_tenant(db, "other.test")
    said = await rules.say(tenant.principal, "block", "sender.test", now)
    with pytest.raises(NotFound):
        await rules.take_back(other.principal, said.id)
    with pytest.raises(NotFound):
        await rules.say(other.principal, "block", "sender.test", now, inbox=tenant.inbox.address)
    with pytest.raises(Invalid, match="names no sender"):
        await rules.say(other.principal, "block", "two words", now)
    assert await rules.all(other.principal) == []
