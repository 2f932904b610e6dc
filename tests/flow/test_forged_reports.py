"""Somebody who got a mail with others cannot have theirs stopped by a forged report; the host that took it is believed.

Eve, at evil.test, got the mail that Bob at there.test got. She knows its Message-ID, the addresses, and an ENVID.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from clawmail.core.outbound.proof import Proofs
from clawmail.store import suppressions
from clawmail.store.db import Database
from tests.support.outgoing import KEYRING, events_of, rows
from tests.support.receiving import a_receiver, hand_over
from tests.support.reports import bounce, complaint, delivered, envid_of
from tests.support.signatures import TextbookRsa, craft
from tests.support.tenants import Tenant

BOB, EVE, MESSAGE_ID = "bob@there.test", "eve@evil.test", "<1@example.test>"
KEY = TextbookRsa.read("rsa2048")
#: every host passes for each of these names, and all sign with one key: what counts is which name speaks.
NAMES = ("there.test", "mx.there.test", "users.there.test", "evil.test", "mx.evil.test", "test")
ZONE = {name: {"TXT": ["v=spf1 +all"]} for name in NAMES} | {
    f"sel._domainkey.{name}": {"TXT": [KEY.record()]} for name in NAMES
}


def from_(author: str, raw: bytes, signed_by: str = "") -> bytes:
    """``raw`` from another author, with a signature of ``signed_by``."""
    raw = raw.replace(b"From: MAILER-DAEMON@there.test", b"From: " + author.encode(), 1)
    raw = raw.replace(b"From: fbl@there.test", b"From: " + author.encode(), 1)
    return craft(raw, KEY, {"d": signed_by}) if signed_by else raw


async def report(db: Database, raw: bytes, **envelope: Any) -> None:
    """Hands in a report as a stranger would; without SPF or a signature that proves anything, unless asked for."""
    await hand_over(a_receiver(db, ZONE), raw, **({"mail_from": "", "helo": "nobody.invalid"} | envelope))


async def states(db: Database, ids: list[UUID]) -> list[str]:
    return [row["state"] for row in await rows(db, ids)]


async def is_suppressed(db: Database, tenant: Tenant, address: str) -> bool:
    async with db.connection() as conn:
        return await suppressions.get(conn, tenant.domain.id, address, datetime.now(UTC)) is not None


ABOUT_BOB = bounce(BOB, message_id=MESSAGE_ID)
FORGED = {
    "as it is": (ABOUT_BOB, {}),
    "in Bob's server's name, unproved": (from_("mailer-daemon@there.test", ABOUT_BOB), {}),
    "from Eve's own host": (ABOUT_BOB, {"helo": "mx.evil.test"}),
    "signed by Eve": (from_("mailer-daemon@there.test", ABOUT_BOB, "evil.test"), {}),
    "by a user of Bob's domain": (ABOUT_BOB, {"mail_from": "eve@there.test"}),
    "by a user of Bob's domain, sent again": (from_("eve@there.test", ABOUT_BOB, "there.test"), {}),
    "by a host below Bob's domain": (ABOUT_BOB, {"helo": "users.there.test"}),
    "by the top of the tree": (from_("mailer-daemon@there.test", ABOUT_BOB, "test"), {}),
}
HONEST = {
    "the host that took it": (ABOUT_BOB, {"helo": "mx.there.test"}),
    "a host of his domain": (ABOUT_BOB, {"helo": "there.test"}),
    "its daemon's address": (ABOUT_BOB, {"mail_from": "Mailer-Daemon@there.test"}),
    "its daemon's signature": (from_("postmaster@there.test", ABOUT_BOB, "there.test"), {}),
}


@pytest.mark.parametrize("case", FORGED)
async def test_a_co_recipients_bounce_is_told_and_moves_nothing(db: Database, tenant: Tenant, case: str) -> None:
    raw, envelope = FORGED[case]
    _, ids, _ = await delivered(db, tenant, BOB, EVE)
    await report(db, raw, **envelope)
    await report(db, raw, **envelope)  # told once
    assert await states(db, ids) == ["delivered", "delivered"]
    assert not await is_suppressed(db, tenant, BOB)
    kinds = [(kind, detail.get("proved")) for kind, detail in await events_of(db, ids[0])]
    assert kinds == [("attempted", None), ("delivered", None), ("bounced", False)]


@pytest.mark.parametrize("case", HONEST)
async def test_the_hosts_own_bounce_settles(db: Database, tenant: Tenant, case: str) -> None:
    raw, envelope = HONEST[case]
    _, ids, _ = await delivered(db, tenant, BOB, EVE)
    await report(db, ABOUT_BOB)  # a claim before it does not stand in its way
    await report(db, raw, **envelope)
    assert await states(db, ids) == ["bounced", "delivered"]
    assert await is_suppressed(db, tenant, BOB)
    assert [detail.get("proved") for kind, detail in await events_of(db, ids[0]) if kind == "bounced"] == [False, None]


async def test_each_destination_is_told_an_envid_that_proves_nobody_elses(db: Database, tenant: Tenant) -> None:
    _, ids, sink = await delivered(db, tenant, BOB, EVE)
    envids = {taken.recipients[0]: envid_of(taken) for taken in sink.messages}
    assert len(set(envids.values())) == 2
    await report(db, bounce(BOB, envid=envids[EVE], message_id=MESSAGE_ID))
    assert (await states(db, ids))[0] == "delivered" and not await is_suppressed(db, tenant, BOB)
    await report(db, bounce(BOB, envid=envids[BOB]))
    assert (await states(db, ids))[0] == "bounced" and await is_suppressed(db, tenant, BOB)


async def test_who_got_it_alone_proves_it_by_its_message_id(db: Database, tenant: Tenant) -> None:
    _, ids, _ = await delivered(db, tenant, BOB)
    await report(db, ABOUT_BOB)
    assert await states(db, ids) == ["bounced"]


async def test_two_mails_of_one_message_id_are_known_to_both_recipients(db: Database, tenant: Tenant) -> None:
    (_, bobs, _), (_, eves, _) = await delivered(db, tenant, BOB), await delivered(db, tenant, EVE)
    await report(db, ABOUT_BOB)
    assert await states(db, [*bobs, *eves]) == ["delivered", "delivered"]


async def test_a_co_recipients_complaint_is_told_and_suppresses_nobody(db: Database, tenant: Tenant) -> None:
    _, ids, _ = await delivered(db, tenant, BOB, EVE)
    raw = complaint(BOB, MESSAGE_ID)
    await report(db, from_(EVE, raw, "evil.test"), mail_from=EVE)
    assert not await is_suppressed(db, tenant, BOB)
    # Bob's provider knows whom of its users it speaks for.
    await report(db, from_("abuse@there.test", raw, "there.test"), mail_from="abuse@there.test")
    assert await is_suppressed(db, tenant, BOB)
    told = [detail.get("proved") for kind, detail in await events_of(db, ids[0]) if kind == "complained"]
    assert told == [False, None]


async def test_a_return_path_of_one_delivery_proves_no_other(db: Database, tenant: Tenant) -> None:
    _, ids, _ = await delivered(db, tenant, BOB, EVE)
    path = Proofs(KEYRING).return_path(ids[1], tenant.domain.name)
    await report(db, ABOUT_BOB, to=path)
    assert await states(db, ids) == ["delivered", "bounced"]
    assert not await is_suppressed(db, tenant, BOB)
