"""What comes back by mail: bounces (RFC 3464, and the habits of older servers) and complaints (RFC 5965).

A report is believed about a delivery only with proof (``proof``): the signed return path it came to, our signed
ENVID, or the Message-ID of a mail that this very inbox sent. Then the delivery moves from delivered to bounced, the
suppression list learns of it, and an event tells; reading the same report again changes nothing. What comes back for a
forward is an event of its rule. An unproved report changes nothing and is filed like any mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.secrets import Keyring
from clawmail.core.envelope import ReturnPath
from clawmail.core.outbound.classify import Verdict, classify_reply
from clawmail.core.outbound.proof import Proofs, envelope_id_in, message_ids_in
from clawmail.model.attempt import Stage
from clawmail.model.events import Event, EventType
from clawmail.model.tenancy import Domain, Inbox
from clawmail.protocol.dsn import BounceRecipient, read_bounce
from clawmail.protocol.replies import Reply
from clawmail.protocol.reports import Complaint, read_complaint
from clawmail.store import events, feedback, suppressions
from clawmail.store.db import Connection, Database
from clawmail.store.feedback import Returned

#: kinds of complaint that are none.
NO_COMPLAINTS = frozenset({"not-spam", "auth-failure"})

log = logger("feedback")


@dataclass(frozen=True, slots=True)
class Report:
    """What a message says if it is a report; read once, whoever it is for."""

    #: None: it is no bounce.
    bounced: Sequence[BounceRecipient] | None = None
    #: None: it is no complaint.
    complaint: Complaint | None = None
    #: what it quotes of the mail it is about.
    envelope_id: str = ""
    message_ids: Sequence[str] = ()


def read_report(raw: bytes) -> Report:
    """The bounce or complaint that a message is; for a thread: a text made to be slow takes a tenth of a second."""
    bounced = read_bounce(raw)
    complaint = read_complaint(raw) if bounced is None else None
    if bounced is None and complaint is None:
        return Report()
    return Report(bounced, complaint, envelope_id_in(raw), message_ids_in(raw))


class Feedback:
    """Settles what reports are about."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._proofs = Proofs(keyring)

    def recognise(self, address: str, now: float) -> ReturnPath | None:
        """The return path of ours that ``address`` is, or a forged one; None for any other address."""
        return self._proofs.recognise(address, now)

    async def absorb(
        self,
        *,
        report: Report,
        mail_from: str,
        return_path: ReturnPath | None,
        inbox: Inbox | None,
        domain: Domain | None,
        now: datetime,
    ) -> bool:
        """Settles the delivery that a bounce or complaint belongs to; whether there was one. Raises StoreUnwell.

        ``return_path``: the address of ours it came to; ``inbox``: else the inbox it came to.
        """
        if domain is None or (return_path is not None and return_path.forged):
            return False
        if report.bounced is not None:
            async with self._db.transaction() as conn:
                known = await self._deliveries(conn, report, return_path, inbox, domain, report.bounced)
                return await _come_back(conn, known, report.bounced, mail_from, now)
        complaint = report.complaint
        if complaint is None or complaint.feedback_type in NO_COMPLAINTS or inbox is None:
            return False
        async with self._db.transaction() as conn:
            return await _complained(conn, complaint, inbox, report.message_ids, now)

    async def _deliveries(
        self,
        conn: Connection,
        report: Report,
        return_path: ReturnPath | None,
        inbox: Inbox | None,
        domain: Domain,
        bounced: Sequence[BounceRecipient],
    ) -> list[Returned]:
        """The deliveries that a bounce is provably about."""
        if return_path is not None and return_path.made_for is not None:
            return await feedback.of_id(conn, return_path.made_for)
        if return_path is not None:
            return await feedback.of_forwards(conn, domain.id, return_path.address, [one.recipient for one in bounced])
        if inbox is None:
            return []
        email_id = self._proofs.read_envelope_id(report.envelope_id)
        known = await feedback.of_email(conn, email_id) if email_id is not None else []
        if not known:
            known = await feedback.of_messages(conn, [inbox.id], report.message_ids)
        return [one for one in known if one.inbox_id == inbox.id]


async def _come_back(
    conn: Connection, known: Sequence[Returned], bounced: Sequence[BounceRecipient], mail_from: str, now: datetime
) -> bool:
    """Moves the deliveries that a bounce says have failed; whether it was about any of ours."""
    by_recipient = {delivery.recipient.lower(): delivery for delivery in known}
    mine = False
    for one in bounced:
        # A bounce may name the address that ours was forwarded to; with one delivery there is no doubt which is meant.
        delivery = by_recipient.get(one.recipient.lower()) or (known[0] if len(known) == 1 else None)
        if delivery is None:
            continue
        mine = True
        # A delayed one is news of something still under way: nothing has failed yet.
        if one.action == "failed" and await feedback.come_back(conn, delivery.id, f"{one.status} {one.reason}", now):
            verdict = _verdict(one)
            await events.append(
                conn, [_event(delivery, EventType.BOUNCED, _bounce_facts(one, verdict, mail_from), now)]
            )
            await _suppress(conn, delivery, one, verdict, now)
            log.info("bounced", delivery=str(delivery.id), to=delivery.recipient, reply=one.reason, by="mail")
    return mine


def _verdict(one: BounceRecipient) -> Verdict:
    reply = Reply(550, one.status, (one.reason,))
    verdict = classify_reply(reply, stage=Stage.RCPT, permanent=True)
    if one.hard:
        return Verdict(verdict.reason, "hard")
    return verdict if verdict.weight == "block" else Verdict(verdict.reason, "soft")


def _bounce_facts(one: BounceRecipient, verdict: Verdict, mail_from: str) -> dict[str, Any]:
    return {
        "reply": one.reason,
        "enhanced_code": one.status,
        "reason": verdict.reason.value,
        "weight": verdict.weight,
        "by": "mail",
        "reported_by": mail_from or None,
    }


async def _suppress(
    conn: Connection, delivery: Returned, one: BounceRecipient, verdict: Verdict, now: datetime
) -> None:
    if delivery.kind != "send" or verdict.weight == "block":
        return
    record = suppressions.record_hard if verdict.weight == "hard" else suppressions.record_soft
    await record(
        conn,
        organisation_id=delivery.organisation_id,
        domain_id=delivery.domain_id,
        address=delivery.recipient,
        detail=f"{one.status} {one.reason}",
        now=now,
    )


async def _complained(
    conn: Connection, complaint: Complaint, inbox: Inbox, message_ids: Sequence[str], now: datetime
) -> bool:
    """An event and a suppression for each delivery complained about; whether it was about any of ours."""
    inboxes = [inbox.id]
    if complaint.mail_from:
        sender = await feedback.inbox_of_sender(conn, inbox.domain_id, complaint.mail_from)
        inboxes += [sender] if sender is not None else []
    named = [complaint.message_id] if complaint.message_id else message_ids
    known = await feedback.of_messages(conn, inboxes, named)
    wanted = {recipient.lower() for recipient in complaint.recipients}
    about = [one for one in known if one.recipient.lower() in wanted] or (known if len(known) == 1 else [])
    for delivery in about:
        if await feedback.has_complained(conn, delivery.email_id, delivery.id):
            continue
        facts = {"feedback_type": complaint.feedback_type, "user_agent": complaint.user_agent, "by": "mail"}
        await events.append(conn, [_event(delivery, EventType.COMPLAINED, facts, now)])
        await suppressions.record_hard(
            conn,
            organisation_id=delivery.organisation_id,
            domain_id=delivery.domain_id,
            address=delivery.recipient,
            detail=f"complaint: {complaint.feedback_type}",
            now=now,
            reason="complaint",
        )
        log.info("complained", delivery=str(delivery.id), to=delivery.recipient, type=complaint.feedback_type)
    return bool(about)


def _event(delivery: Returned, kind: EventType, facts: dict[str, Any], now: datetime) -> Event:
    rule = {"rule_id": str(delivery.rule_id)} if delivery.rule_id is not None else {}
    return Event(
        new_id(),
        delivery.organisation_id,
        delivery.domain_id,
        kind,
        now,
        delivery.inbox_id,
        delivery.email_id,
        delivery.id,
        delivery.recipient,
        facts | rule,
    )
