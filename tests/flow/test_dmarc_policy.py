"""What a failed DMARC policy does at this server: recorded, flagged, or refused, as the setting says."""

from __future__ import annotations

import msgspec
import pytest

from clawmail.core.envelope import Refused
from clawmail.store.db import Database
from tests.support.receiving import a_receiver, hand_over
from tests.support.tenants import Tenant
from tests.support.zones import SERVFAIL

FORGED = b"From: Boss <boss@bank.test>\r\nTo: agent@example.test\r\nSubject: Pay\r\n\r\nNow.\r\n"


async def dispositions(db: Database) -> list[tuple[str, str]]:
    async with db.connection() as conn:
        rows = await conn.fetch("SELECT authentication FROM messages")
    results = [msgspec.json.decode(row["authentication"]) for row in rows]
    return [(result["dmarc"]["result"], result["disposition"]) for result in results]


REJECTING = {"_dmarc.bank.test": {"TXT": ["v=DMARC1; p=reject"]}}


@pytest.mark.parametrize(("policy", "disposition"), [("record", "none"), ("quarantine", "quarantine")])
async def test_it_is_recorded_or_flagged(db: Database, tenant: Tenant, policy: str, disposition: str) -> None:
    await hand_over(a_receiver(db, REJECTING, policy), FORGED)
    assert await dispositions(db) == [("fail", disposition)]


async def test_it_is_refused_when_the_author_asks_for_it(db: Database, tenant: Tenant) -> None:
    with pytest.raises(Refused) as refused:
        await hand_over(a_receiver(db, REJECTING, "reject"), FORGED)
    assert (refused.value.code, refused.value.enhanced) == (550, "5.7.1")
    assert await dispositions(db) == []


async def test_quarantine_asked_for_is_flagged_and_not_refused(db: Database, tenant: Tenant) -> None:
    await hand_over(a_receiver(db, {"_dmarc.bank.test": {"TXT": ["v=DMARC1; p=quarantine"]}}, "reject"), FORGED)
    assert await dispositions(db) == [("fail", "quarantine")]


async def test_a_check_that_could_not_be_made_is_tried_again(db: Database, tenant: Tenant) -> None:
    zone = {"_dmarc.bank.test": {"TXT": SERVFAIL}}
    with pytest.raises(Refused) as refused:
        await hand_over(a_receiver(db, zone, "reject"), FORGED)
    assert (refused.value.code, refused.value.enhanced) == (451, "4.7.1")
    await hand_over(a_receiver(db, zone, "record"), FORGED)
    assert await dispositions(db) == [("temperror", "none")]
