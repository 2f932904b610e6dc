"""Notices to senders: what failed for good, what is late, what was delivered (RFC 3464, RFC 3461 section 5).

A notice is owed from the moment its delivery was settled, by a mark on the row. It is composed and filed in the
sender's inbox in the transaction that clears the mark, so it is written once, whatever dies in between. It has the null
sender, answers the original by In-Reply-To so that it lands in the same thread, and is never about a notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from clawmail.base.errors import ClawmailError
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.core.described import described
from clawmail.core.outbound.settle import Schedule
from clawmail.core.trace import return_path_field
from clawmail.model.delivery import Notice, State
from clawmail.model.events import Event, EventType
from clawmail.model.mail import Filing, Message, Posting
from clawmail.protocol.dsn import DsnRecipient, DsnRequest, write_dsn
from clawmail.protocol.mime.parse import parse_message
from clawmail.protocol.replies import status_in
from clawmail.store import notices, postings
from clawmail.store.db import Connection, Database
from clawmail.store.notices import Due, Original, Told

#: originals of more octets are handled in a thread.
THREAD_OCTETS = 256 * 1024

log = logger("queue")


class Bounces:
    """Writes the notices that are owed."""

    def __init__(self, db: Database, schedule: Schedule, *, hostname: str, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._hostname = hostname
        self._clock = clock
        self._keeps_trying = timedelta(seconds=sum(schedule.gaps))

    async def write_due(self) -> int:
        """Writes every notice that is owed now; how many there were. Raises StoreUnwell."""
        written = 0
        while await self._write_one():
            written += 1
        return written

    async def _write_one(self) -> bool:
        async with self._db.transaction() as conn:
            what = await notices.due(conn)
            if what is None:
                return False
            told = await notices.take(conn, what)
            original = await notices.original(conn, what)
            if original is None or not told:
                return True
            size = len(original.raw)
            arguments = (what, told, original, self._clock())
            posting = (
                self._posting(*arguments)
                if size <= THREAD_OCTETS
                else await asyncio.to_thread(self._posting, *arguments)
            )
            if posting is not None:
                await self._file(conn, posting, what)
            return True

    @staticmethod
    async def _file(conn: Connection, posting: Posting, what: Due) -> None:
        (result,) = await postings.post(conn, [posting])
        if isinstance(result, ClawmailError):
            # The inbox went away between two statements: nobody is left to be told.
            log.warning("notice not filed", notice=what.notice, problem=result.message)
        else:
            log.info("notice", notice=what.notice, to=posting.message.to_addresses[0])

    def _posting(self, what: Due, told: Sequence[Told], original: Original, now: datetime) -> Posting | None:
        """The notice as a posting; None when there is nobody to write to."""
        first = told[0]
        raw = write_dsn(
            DsnRequest(
                sender=original.address if first.envelope_from else "",
                original=first.prefix + original.raw,
                arrived=original.received_at,
                ret=str(first.options.get("ret") or ""),
                envelope_id=str(first.options.get("envid") or ""),
            ),
            [self._recipient(what.notice, one) for one in told],
            reporting_host=self._hostname,
            message_id=f"<{uuid4()}@{self._hostname}>",
            now=now,
        )
        if raw is None:
            return None
        message = report_message(raw, now)
        filing = Filing(
            email_id=new_id(),
            organisation_id=first.organisation_id,
            domain_id=first.domain_id,
            inbox_id=what.inbox_id,
            direction="inbound",
            is_read=False,
            within_quota=False,
        )
        event = Event(
            id=new_id(),
            organisation_id=first.organisation_id,
            domain_id=first.domain_id,
            type=EventType.RECEIVED,
            at=now,
            inbox_id=what.inbox_id,
            email_id=filing.email_id,
            detail={"from": "", "size": len(raw), "notice": what.notice, "about": str(first.email_id)},
        )
        return Posting(message, (filing,), events=(event,))

    def _recipient(self, notice: Notice, one: Told) -> DsnRecipient:
        reply, action = one.last_reply or "", str(notice)
        if notice == "delivered":
            # RFC 3461 section 5.2.3: delivered is what lies in an inbox of ours; of other hosts we know less.
            action, status = ("delivered", "2.1.5") if one.last_reply_by == "house" else ("relayed", "2.0.0")
        elif one.state == State.EXPIRED:
            status = "5.4.7"  # RFC 3463 section 3.5: delivery time expired
        else:
            status = status_in(reply, "4" if notice == "delayed" else "5")
        return DsnRecipient(
            final=one.recipient,
            action=action,
            status=status,
            reply=reply,
            remote_host=(one.last_host or "") if one.last_reply_by == "host" else "",
            original=str(one.options.get("orcpt") or ""),
            last_attempt=one.last_attempt_at,
            retry_until=one.created_at + self._keeps_trying if notice == "delayed" else None,
        )


def report_message(raw: bytes, now: datetime) -> Message:
    """A report that this server wrote, as it is kept."""
    parsed = parse_message(raw)
    author = parsed.from_
    return Message(
        id=new_id(),
        raw=raw,
        trace=return_path_field(""),
        rfc_message_id=parsed.message_id,
        in_reply_to=parsed.in_reply_to,
        reference_ids=parsed.references,
        subject=parsed.subject or "",
        from_address=author.address if author else "",
        from_name=author.name if author else "",
        envelope_from="",
        sender_warning=None,
        to_addresses=tuple(box.address for box in parsed.to if box.address),
        cc_addresses=(),
        bcc_addresses=(),
        reply_to=(),
        body_text=parsed.text,
        body_html=None,
        attachments=described(parsed),
        authentication=None,
        received_at=now,
    )
