"""What follows from a bounce or complaint that came in by mail, in the caller's transaction.

A proved one moves the delivery from delivered to bounced, teaches the suppression list, and is told by an event. One
that is only claimed is told by an event whose detail has ``proved: false``, once, and changes nothing: whoever got the
same mail could have written it, to have somebody else's mail stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.core.envelope import Refused
from clawmail.core.outbound.classify import Verdict, classify_reply
from clawmail.model.attempt import Stage
from clawmail.model.delivery import State
from clawmail.model.events import Event, EventType
from clawmail.protocol.dsn import BounceRecipient
from clawmail.protocol.replies import Reply
from clawmail.protocol.reports import Complaint
from clawmail.store import events, feedback, suppressions
from clawmail.store.db import Connection
from clawmail.store.feedback import Returned

log = logger("feedback")


class Known(NamedTuple):
    """A delivery that a report is about."""

    delivery: Returned
    #: nobody could say so but who had to do with this delivery.
    proved: bool


async def came_back(
    conn: Connection, known: Sequence[Known], bounced: Sequence[BounceRecipient], mail_from: str, now: datetime
) -> bool:
    """Moves the deliveries that a bounce says have failed; whether it was about any of ours.

    ``mail_from``: the envelope sender of the report. Raises Refused while one of them is still being carried: a peer
    may be quicker to send the bounce than we are to write down that it took the mail.
    """
    by_recipient = {one.delivery.recipient.lower(): one for one in known}
    mine = False
    for one in bounced:
        # A bounce may name the address that ours was forwarded to; with one delivery there is no doubt which is meant.
        meant = by_recipient.get(one.recipient.lower()) or (known[0] if len(known) == 1 else None)
        if meant is None:
            continue
        mine = True
        # A delayed one is news of something still under way: nothing has failed yet.
        if one.action == "failed":
            await _failed(conn, meant, one, mail_from, now)
    return mine


async def _failed(conn: Connection, known: Known, one: BounceRecipient, mail_from: str, now: datetime) -> None:
    delivery, verdict = known.delivery, _verdict(one)
    if delivery.state is State.LEASED:
        raise Refused(451, "4.3.0", "the mail this is about is still on its way, try again")
    facts = _bounce_facts(one, verdict, mail_from)
    if known.proved:
        if not await feedback.come_back(conn, delivery.id, f"{one.status} {one.reason}", now):
            return
        await _suppress(conn, delivery, one, verdict, now)
    else:
        if delivery.state is not State.DELIVERED or await feedback.told(conn, delivery, EventType.BOUNCED):
            return
        facts["proved"] = False
    await events.append(conn, [_event(delivery, EventType.BOUNCED, facts, now)])
    log.info(
        "bounced", delivery=str(delivery.id), to=delivery.recipient, reply=one.reason, by="mail", proved=known.proved
    )


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


async def complained(conn: Connection, known: Sequence[Known], complaint: Complaint, now: datetime) -> bool:
    """An event and a suppression for each delivery complained about; whether it was about any of ours."""
    wanted = {recipient.lower() for recipient in complaint.recipients}
    about = [one for one in known if one.delivery.recipient.lower() in wanted] or (known if len(known) == 1 else [])
    for delivery, proved in about:
        if await feedback.told(conn, delivery, EventType.COMPLAINED, proved=proved):
            continue
        facts = {"feedback_type": complaint.feedback_type, "user_agent": complaint.user_agent, "by": "mail"}
        if proved:
            await suppressions.record_hard(
                conn,
                organisation_id=delivery.organisation_id,
                domain_id=delivery.domain_id,
                address=delivery.recipient,
                detail=f"complaint: {complaint.feedback_type}",
                now=now,
                reason="complaint",
            )
        told = facts if proved else facts | {"proved": False}
        await events.append(conn, [_event(delivery, EventType.COMPLAINED, told, now)])
        log.info(
            "complained",
            delivery=str(delivery.id),
            to=delivery.recipient,
            type=complaint.feedback_type,
            proved=proved,
        )
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
