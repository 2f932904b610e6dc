"""Receipts: the notice of success that a sender asked for (RFC 3461 section 5.2.2, NOTIFY=SUCCESS).

It is sent only to a sender whom SPF has proved: anybody can write anybody's address into MAIL FROM, and nobody is to be
sent what he did not ask for. It follows the commit of the mail it tells of, and losing it loses no mail.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from clawmail.base.errors import ClawmailError
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.core.envelope import Envelope, Recipient
from clawmail.core.outbound.bounces import report_message
from clawmail.core.signing import Signers
from clawmail.core.writer import Writer
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.mail import Posting
from clawmail.model.tenancy import Domain
from clawmail.protocol.address import parse_address
from clawmail.protocol.dsn import DsnRecipient, DsnRequest, write_dsn

log = logger("receive")


class Receipts:
    """Writes them."""

    def __init__(self, writer: Writer, signers: Signers, *, hostname: str) -> None:
        self._writer = writer
        self._signers = signers
        self._hostname = hostname

    async def send(self, envelope: Envelope, *, proved: bool) -> None:
        """Queues a receipt for each domain whose recipients were asked about. ``proved``: SPF passed for the sender."""
        wanted: dict[UUID, tuple[Domain, list[Recipient]]] = {}
        for recipient in envelope.recipients:
            if recipient.notify and "SUCCESS" in recipient.notify and recipient.inbox and recipient.domain:
                wanted.setdefault(recipient.domain.id, (recipient.domain, []))[1].append(recipient)
        sender = parse_address(envelope.mail_from)
        if not wanted or not proved or sender is None:
            return
        for domain, recipients in wanted.values():
            try:
                await self._queue(envelope, sender.domain, domain, recipients)
            except ClawmailError as error:
                log.warning("receipt not sent", to=envelope.mail_from, problem=error.message)
            except Exception:  # the mail is kept: whatever is wrong with its receipt, its sender must not send it again
                log.exception("receipt failed", to=envelope.mail_from)

    async def _queue(self, envelope: Envelope, destination: str, domain: Domain, recipients: list[Recipient]) -> None:
        now = datetime.now(UTC)
        raw = write_dsn(
            DsnRequest(
                envelope.mail_from, envelope.raw, envelope.received_at, envelope.ret or "", envelope.envid or ""
            ),
            [DsnRecipient(r.address, "delivered", "2.1.5", original=r.orcpt or "") for r in recipients],
            reporting_host=self._hostname,
            message_id=f"<{uuid4()}@{domain.name}>",
            now=now,
        )
        if raw is None:
            return
        message = report_message(await self._signers.sign(domain, raw) + raw, now)
        delivery = NewDelivery(
            id=new_id(),
            organisation_id=domain.organisation_id,
            domain_id=domain.id,
            inbox_id=None,
            email_id=None,
            rule_id=None,
            kind="bounce",
            envelope_from="",
            recipient=envelope.mail_from,
            destination=destination,
            state=State.QUEUED,
            next_attempt_at=now,
            created_at=now,
        )
        await self._writer.write(Posting(message, (), (delivery,)))
