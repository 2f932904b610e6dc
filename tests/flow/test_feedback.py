"""What comes back by mail settles the delivery it is about, if it can prove it, and once."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from clawmail.base.ids import new_id
from clawmail.base.secrets import Keyring
from clawmail.core import receive
from clawmail.core.envelope import Refused
from clawmail.core.outbound.feedback import Feedback, Report, read_report
from clawmail.core.outbound.proof import Proofs, email_of
from clawmail.protocol.srs import rewrite_sender
from clawmail.store import accounts, suppressions
from clawmail.store.db import Database
from tests.support.outgoing import (
    KEYRING,
    events_of,
    queue,
    rows,
)
from tests.support.receiving import a_receiver, hand_over
from tests.support.reports import bounce, complaint, delivered, envid_of
from tests.support.tenants import Tenant, add_inbox, add_tenant

NOW = datetime.now(UTC)


async def absorb(db: Database, tenant: Tenant, raw: bytes, **more: Any) -> bool:
    values = {"mail_from": "", "return_path": None, "inbox": tenant.inbox, "domain": tenant.domain, "now": NOW} | more
    return await Feedback(db, KEYRING).absorb(report=read_report(raw), **values)


async def is_suppressed(db: Database, tenant: Tenant, address: str) -> bool:
    async with db.connection() as conn:
        return await suppressions.get(conn, tenant.domain.id, address, NOW) is not None


async def test_the_peer_is_given_an_envid_that_proves_its_bounce(db: Database, tenant: Tenant) -> None:
    _, ids, sink = await delivered(db, tenant, "bob@there.test")
    assert await absorb(db, tenant, bounce("bob@there.test", envid=envid_of(sink.messages[0])))
    (row,) = await rows(db, ids)
    assert (row["state"], row["last_reply"]) == ("bounced", "5.1.1 550 5.1.1 it is as it is")
    kind, detail = (await events_of(db, ids[0]))[-1]
    assert (kind, detail["weight"], detail["by"]) == ("bounced", "hard", "mail")
    assert await is_suppressed(db, tenant, "bob@there.test")


async def test_the_same_bounce_again_changes_nothing(db: Database, tenant: Tenant) -> None:
    _, ids, _ = await delivered(db, tenant, "bob@there.test")
    raw = bounce("bob@there.test", message_id="<1@example.test>")
    assert await absorb(db, tenant, raw) and await absorb(db, tenant, raw)
    assert [kind for kind, _ in await events_of(db, ids[0])] == ["attempted", "delivered", "bounced"]


async def test_a_bounce_that_overtakes_the_delivery_it_is_about_is_put_off(db: Database, tenant: Tenant) -> None:
    """The peer has the mail and has sent it back, and our result is not written yet."""
    _, ids, _ = await delivered(db, tenant, "bob@there.test")
    raw = bounce("bob@there.test", message_id="<1@example.test>")
    carried = "state = 'leased', lease_owner = id, lease_until = now() + interval '1 hour'"
    async with db.connection() as conn:
        await conn.execute(f"UPDATE deliveries SET {carried} WHERE id = $1", ids[0])
    with pytest.raises(Refused) as put_off:
        await absorb(db, tenant, raw)
    assert put_off.value.code == 451
    async with db.connection() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered', lease_owner = NULL, lease_until = NULL")
    assert await absorb(db, tenant, raw)
    assert [kind for kind, _ in await events_of(db, ids[0])] == ["attempted", "delivered", "bounced"]


async def test_only_the_recipient_it_names_comes_back(db: Database, tenant: Tenant) -> None:
    _, ids, sink = await delivered(db, tenant, "bob@there.test", "eve@there.test")
    (taken,) = sink.messages
    assert await absorb(db, tenant, bounce("EVE@there.test", envid=envid_of(taken)))
    assert [row["state"] for row in await rows(db, ids)] == ["delivered", "bounced"]
    assert not await absorb(db, tenant, bounce("somebody@else.test", envid=envid_of(taken)))


async def test_a_report_is_read_once_however_many_it_is_for(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def counted(raw: bytes, speakers: Collection[str]) -> Report:
        read.append(raw)
        return read_report(raw, speakers)

    monkeypatch.setattr(receive, "read_report", counted)
    receiver, raw = a_receiver(db, {}), bounce("bob@there.test", message_id="<1@example.test>")
    await hand_over(receiver, raw, mail_from="", also=[f"name{number}@example.test" for number in range(20)])
    await hand_over(receiver, b"From: a@there.test\r\nSubject: no report\r\n\r\nhi\r\n")
    assert read == [raw]


async def test_mail_to_a_return_path_of_a_domain_just_removed_is_not_taken_and_dropped(
    db: Database, tenant: Tenant
) -> None:
    receiver, proofs = a_receiver(db, {}), Proofs(Keyring(b"k" * 32))
    home = await receiver.judge_recipient(proofs.return_path(new_id(), "example.test"))
    async with db.transaction() as conn:
        await accounts.remove_domain(conn, tenant.domain.id, NOW)
    assert home.inbox is None
    with pytest.raises(Refused, match="451"):
        await hand_over(receiver, b"Subject: no report\r\n\r\nhi\r\n", to=home.address)


async def test_a_full_mailbox_counts_as_soft(db: Database, tenant: Tenant) -> None:
    for number in (1, 2, 3):
        raw = f"Message-ID: <{number}@example.test>\r\nSubject: hello\r\n\r\nhi\r\n".encode()
        _, ids, _ = (
            await delivered(db, tenant, "bob@there.test", raw=raw)
            if number == 1
            else await queued_and_taken(db, tenant, raw)
        )
        assert await absorb(db, tenant, bounce("bob@there.test", status="5.2.2", message_id=f"<{number}@example.test>"))
        assert (await rows(db, ids))[0]["state"] == "bounced"
        assert await is_suppressed(db, tenant, "bob@there.test") == (number == 3)


async def queued_and_taken(db: Database, tenant: Tenant, raw: bytes) -> tuple[Any, list[Any], None]:
    """Mail marked as taken over, without the success that would forgive soft bounces."""
    email_id, ids = await queue(db, tenant, ["bob@there.test"], raw=raw)
    async with db.connection() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered' WHERE id = ANY ($1)", ids)
    return email_id, ids, None


@pytest.mark.parametrize(
    "raw",
    [
        bounce("bob@there.test", message_id="<guess@example.test>"),
        bounce("bob@there.test", envid="cm.00000000000000000000000000000000.aaaaaaaaaaaaaaaaaaaa"),
        bounce("bob@there.test"),
        bounce("bob@there.test", action="delayed", message_id="<1@example.test>"),
        b"From: bob@there.test\r\nIn-Reply-To: <1@example.test>\r\nSubject: Re: hello\r\n\r\nThank you, it failed.\r\n",
    ],
    ids=["guessed id", "forged envid", "no proof", "only delayed", "a reply"],
)
async def test_what_proves_nothing_changes_nothing(db: Database, tenant: Tenant, raw: bytes) -> None:
    _, ids, _ = await delivered(db, tenant, "bob@there.test")
    await absorb(db, tenant, raw)
    assert (await rows(db, ids))[0]["state"] == "delivered"
    assert not await is_suppressed(db, tenant, "bob@there.test")


async def test_another_tenants_mail_cannot_be_bounced(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    _, ids, _ = await delivered(db, tenant, "bob@there.test")
    assert not await absorb(db, other, bounce("bob@there.test", message_id="<1@example.test>"))
    neighbour = await add_inbox(db, tenant.domain, "neighbour")
    assert not await absorb(db, tenant, bounce("bob@there.test", message_id="<1@example.test>"), inbox=neighbour)
    assert (await rows(db, ids))[0]["state"] == "delivered"


async def test_a_complaint_is_told_and_suppresses(db: Database, tenant: Tenant) -> None:
    _, ids, _ = await delivered(db, tenant, "bob@there.test")
    raw = complaint("bob@there.test", "<1@example.test>")
    assert await absorb(db, tenant, raw) and await absorb(db, tenant, raw)
    assert [kind for kind, _ in await events_of(db, ids[0])] == ["attempted", "delivered", "complained"]
    async with db.connection() as conn:
        (entry,) = await suppressions.page(conn, tenant.domain.id, NOW, after=None, limit=10)
    assert (entry.address, entry.reason, entry.expires_at) == ("bob@there.test", "complaint", None)


async def test_praise_is_no_complaint(db: Database, tenant: Tenant) -> None:
    await delivered(db, tenant, "bob@there.test")
    assert not await absorb(db, tenant, complaint("bob@there.test", "<1@example.test>", "not-spam"))
    assert not await is_suppressed(db, tenant, "bob@there.test")


async def test_what_comes_back_for_a_forward_is_an_event_of_its_rule(db: Database, tenant: Tenant) -> None:
    proofs, rule = Feedback(db, KEYRING), new_id()
    key = KEYRING.signing_key("return path")
    sender = rewrite_sender("carol@far.test", domain="example.test", key=key, now=time.time())
    _, ids, _ = await delivered(db, tenant, "bob@there.test", kind="forward", envelope_from=sender, rule_id=rule)
    home = proofs.recognise(sender, time.time())
    assert home is not None and not home.forged
    assert await absorb(db, tenant, bounce("bob@there.test"), return_path=home, inbox=None)
    assert (await rows(db, ids))[0]["state"] == "bounced"
    kind, detail = (await events_of(db, ids[0]))[-1]
    assert (kind, detail["rule_id"]) == ("bounced", str(rule))
    assert not await is_suppressed(db, tenant, "bob@there.test")


def test_return_paths_are_recognised_and_forged_ones_too() -> None:
    proofs, delivery = Proofs(KEYRING), new_id()
    home = proofs.recognise(proofs.return_path(delivery, "example.test"), time.time())
    assert home is not None and (home.forged, home.made_for) == (False, delivery)
    forged = proofs.recognise("SRS0=AAAA=AA=far.test=carol@example.test", time.time())
    assert forged is not None and forged.forged
    assert proofs.recognise("bounce+news@example.test", time.time()) is None
    assert proofs.recognise("agent@example.test", time.time()) is None


def test_an_envelope_id_proves_one_email_at_one_destination() -> None:
    proofs, email_id = Proofs(KEYRING), new_id()
    text = proofs.envelope_id(email_id, "there.test")
    assert email_of(text.upper()) == email_id and proofs.proves(text.upper(), email_id, "there.test")
    assert not proofs.proves(text, email_id, "elsewhere.test")
    assert not proofs.proves(text, new_id(), "there.test")
    assert not proofs.proves(text[:-1] + ("a" if text[-1] != "a" else "b"), email_id, "there.test")
    assert email_of("ticket 7") is None
