"""What comes back by mail: bounces (RFC 3464, and the habits of older servers) and complaints (RFC 5965).

A report is believed about a delivery only with proof (``proof``): the signed return path it came to, our signed ENVID,
or the Message-ID of a mail that this very inbox sent. Everybody who got a mail knows its Message-ID. So where others
got it too, that is a claim and no proof, unless the report was sent by the mail system of the recipient's domain or of
the host that took the mail (``reporter``).

What is proved settles the delivery, what is claimed is told (``returns``); reading the same report again changes
nothing. What comes back for a forward is an event of its rule. What cannot be read, or is about nothing of ours,
changes nothing and is filed like any mail.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from clawmail.base.secrets import Keyring
from clawmail.core.envelope import ReturnPath
from clawmail.core.outbound.proof import Proofs, email_of, envelope_id_in, message_ids_in
from clawmail.core.outbound.reporter import speak_for
from clawmail.core.outbound.returns import Known, came_back, complained
from clawmail.model.tenancy import Domain, Inbox
from clawmail.protocol.dsn import BounceRecipient, read_bounce, read_unnamed_bounce
from clawmail.protocol.reports import Complaint, read_complaint
from clawmail.store import feedback
from clawmail.store.db import Connection, Database
from clawmail.store.feedback import Returned

#: kinds of complaint that are none.
NO_COMPLAINTS = frozenset({"not-spam", "auth-failure"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a message says if it is a report; read once, whoever it is for."""

    #: None: it is no bounce.
    bounced: Sequence[BounceRecipient] | None = None
    #: what failed, in a bounce that names nobody; it can be about the delivery of a return path only.
    unnamed: BounceRecipient | None = None
    #: None: it is no complaint.
    complaint: Complaint | None = None
    #: what it quotes of the mail it is about.
    envelope_id: str = ""
    message_ids: Sequence[str] = ()
    #: domains whose own mail system sent it (``reporter.speakers``).
    speakers: Collection[str] = ()


def read_report(raw: bytes, speakers: Collection[str] = ()) -> Report:
    """The bounce or complaint that a message is; for a thread: a text made to be slow takes a tenth of a second."""
    bounced = read_bounce(raw)
    complaint = read_complaint(raw) if bounced is None else None
    if bounced is None and complaint is None:
        return Report(unnamed=read_unnamed_bounce(raw))
    return Report(bounced, None, complaint, envelope_id_in(raw), message_ids_in(raw), speakers)


class Feedback:
    """Settles what reports are about."""

    def __init__(self, db: Database, keyring: Keyring) -> None:
        self._db = db
        self._proofs = Proofs(keyring)

    def recognise(self, address: str, now: float) -> ReturnPath | None:
        """The return path of ours that ``address`` is, or a forged one; None for any other address."""
        return self._proofs.recognise(address, now)

    async def home(self, return_path: ReturnPath, domain: Domain) -> str | None:
        """The inbox that sent the delivery of ``return_path``, if both are still there. Raises StoreUnwell."""
        if return_path.made_for is None:
            return None
        async with self._db.connection() as conn:
            return await feedback.sender_of(conn, return_path.made_for, domain.id)

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

        ``return_path``: the address of ours it came to; ``inbox``: the inbox it came to, or that sent the delivery.
        """
        if domain is None or (return_path is not None and return_path.forged):
            return False
        bounced, complaint = report.bounced, report.complaint
        if report.unnamed is not None and return_path is not None and return_path.made_for is not None:
            bounced = [report.unnamed]
        if bounced is not None:
            async with self._db.transaction() as conn:
                known = await self._of_bounce(conn, report, bounced, return_path, inbox, domain)
                return await came_back(conn, known, bounced, mail_from, now)
        if complaint is None or complaint.feedback_type in NO_COMPLAINTS or inbox is None:
            return False
        async with self._db.transaction() as conn:
            known = await self._of_complaint(conn, report, complaint, return_path, inbox, now)
            return await complained(conn, known, complaint, now)

    async def _of_bounce(
        self,
        conn: Connection,
        report: Report,
        bounced: Sequence[BounceRecipient],
        return_path: ReturnPath | None,
        inbox: Inbox | None,
        domain: Domain,
    ) -> list[Known]:
        """The deliveries that a bounce may be about."""
        if return_path is not None and return_path.made_for is not None:
            return await _made_for(conn, return_path.made_for, domain.id)
        if return_path is not None:
            recipients = [one.recipient for one in bounced]
            # Who else was forwarded to under this sender could have said so; nobody's address is suppressed for it.
            forwards = await feedback.of_forwards(conn, domain.id, return_path.address, recipients)
            return [Known(one, proved=True) for one in forwards]
        if inbox is None:
            return []
        return await self._by_envelope_id(conn, report, inbox) or _judged(
            await feedback.of_messages(conn, [inbox.id], report.message_ids), report
        )

    async def _of_complaint(
        self,
        conn: Connection,
        report: Report,
        complaint: Complaint,
        return_path: ReturnPath | None,
        inbox: Inbox,
        now: datetime,
    ) -> list[Known]:
        """The deliveries that a complaint may be about: it says under which envelope sender the mail came."""
        home = return_path or self._proofs.recognise(complaint.mail_from, now.timestamp())
        if home is not None and home.made_for is not None:
            return await _made_for(conn, home.made_for, inbox.domain_id)
        if known := await self._by_envelope_id(conn, report, inbox):
            return known
        inboxes = [inbox.id]
        if complaint.mail_from:
            sender = await feedback.inbox_of_sender(conn, inbox.domain_id, complaint.mail_from)
            inboxes += [sender] if sender is not None else []
        named = [complaint.message_id] if complaint.message_id else report.message_ids
        return _judged(await feedback.of_messages(conn, inboxes, named), report)

    async def _by_envelope_id(self, conn: Connection, report: Report, inbox: Inbox) -> list[Known]:
        """The deliveries of this inbox that travelled under the ENVID of ``report``."""
        email_id = email_of(report.envelope_id)
        if email_id is None:
            return []
        return [
            Known(one, proved=True)
            for one in await feedback.of_email(conn, email_id)
            if one.inbox_id == inbox.id and self._proofs.proves(report.envelope_id, email_id, one.destination)
        ]


async def _made_for(conn: Connection, delivery_id: UUID, domain_id: UUID) -> list[Known]:
    return [Known(one, proved=True) for one in await feedback.of_id(conn, delivery_id) if one.domain_id == domain_id]


def _judged(found: Sequence[Returned], report: Report) -> list[Known]:
    """What is known to whoever got the mail proves the delivery of the only one, or is borne out by who says it."""
    return [
        Known(one, proved=one.alone or speak_for(report.speakers, one.destination, one.last_host or ""))
        for one in found
    ]
