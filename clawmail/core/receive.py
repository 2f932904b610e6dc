"""Receiving: from an envelope at the door to mail in an inbox, committed.

A recipient is judged when it is named, the message when its last byte is there. What follows is one transaction: the
message, its copy in every inbox, the deliveries of forwarding rules, the events. Only then does the door answer 250.
Nothing here refuses a message for being hard to read; it is kept as it came and shown as well as it can be.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager
from uuid import UUID

from clawmail.base.errors import QuotaExceeded
from clawmail.base.log import logger
from clawmail.base.settings import Settings
from clawmail.base.tenant import current_tenant
from clawmail.core.admission import Admission
from clawmail.core.aside import Aside
from clawmail.core.authenticate import MAX_QUESTIONS, MAX_SECONDS, Verdict, authenticate
from clawmail.core.directory import Directory
from clawmail.core.envelope import Envelope, Recipient, Refused
from clawmail.core.forwards import Forwarder
from clawmail.core.incoming import event_of, filing_of, message_of
from clawmail.core.outbound.feedback import Feedback, Report, read_report
from clawmail.core.outbound.reporter import may_be_report, speakers
from clawmail.core.receipts import Receipts
from clawmail.core.trace import MAX_RECEIVED, MAX_RECEIVED_BY_US, hosts_passed
from clawmail.core.writer import Writer
from clawmail.model.mail import Message, Posting
from clawmail.model.tenancy import Domain, Inbox
from clawmail.protocol.dns import Address, BudgetedResolver, Resolver
from clawmail.protocol.headers import RawMessage, split_message
from clawmail.protocol.mime.parse import ParsedMessage, parse_message
from clawmail.protocol.spf.check import SpfResult, check_spf
from clawmail.store.db import Database
from clawmail.store.turns import Turns

#: messages larger than this, or with a larger header, are read beside the loop, in bytes.
THREAD_BYTES = 128 * 1024
CHEAP_HEADER_BYTES = 16 * 1024
#: bytes from which a message is large, and large ones judged and written at once: each takes several times its size.
LARGE_BYTES = 1024 * 1024
LARGE_AT_ONCE = 2
#: of a message's budget of DNS questions and seconds, the share of SPF, which is checked while the message comes in.
SPF_QUESTIONS = 25
SPF_SECONDS = 5.0

log = logger("receive")


class Receiver:
    """Takes mail from the world."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        directory: Directory,
        resolver: Resolver,
        writer: Writer,
        forwarder: Forwarder,
        feedback: Feedback,
        receipts: Receipts,
        aside: Aside,
    ) -> None:
        self._hostname = settings.hostname.lower()
        self._mx_prefix = f"{settings.server.mx_label}."
        self._dmarc_policy = settings.smtp.dmarc_policy
        self._admission = Admission(db, directory, feedback, app_domain=settings.server.app_domain)
        self._directory = directory
        self._resolver = resolver
        self._writer = writer
        self._forwarder = forwarder
        self._feedback = feedback
        self._receipts = receipts
        self._aside = aside
        self._large = Turns(LARGE_AT_ONCE)

    async def judge_recipient(self, address: str) -> Recipient:
        """Whether mail for ``address`` is taken, and where it goes. Raises Refused, or StoreUnwell."""
        return await self._admission.judge(address)

    async def check_sender(self, ip: Address, mail_from: str, helo: str) -> SpfResult:
        """SPF for a client and what it calls itself; may run while the message is still on its way."""
        budget = BudgetedResolver(self._resolver, queries=SPF_QUESTIONS, seconds=SPF_SECONDS)
        return await check_spf(budget, ip=ip, mail_from=mail_from, helo=helo, receiver=self._hostname, now=time.time())

    async def receive(self, envelope: Envelope) -> str:
        """Judges and keeps a message; returns its queue id once it is committed. Raises Refused, or StoreUnwell."""
        if len(envelope.raw) < LARGE_BYTES:
            return await self._receive(envelope)
        async with self._large.place(current_tenant.get()):
            return await self._receive(envelope)

    def on_its_way(self) -> AbstractContextManager[None]:
        """Says that this task is about to hand in mail, so that it may share the next commit."""
        return self._writer.on_its_way()

    async def give_way(self, seconds: float) -> None:
        """Rests after a piece of a large message that took ``seconds``, while there is small mail."""
        await self._writer.rest(seconds)

    async def _receive(self, envelope: Envelope) -> str:
        message = await _split(envelope.raw)
        await self._refuse_loops(message)
        verdict = await self._authenticate(envelope, message)
        self._apply_dmarc(verdict)
        parsed = await self._parse(message)
        kept = message_of(envelope, verdict, parsed, hostname=self._hostname, disposition=self._disposition(verdict))
        if homes := await self._homes(envelope, message, parsed, verdict):
            await self._write(await self._posting(envelope, kept, parsed, verdict, homes))
            await self._receipts.send(envelope, proved=verdict.spf is not None and verdict.spf.result == "pass")
        log.info(
            "received",
            id=str(kept.id),
            ip=str(envelope.client_ip),
            mail_from=envelope.mail_from,
            rcpt=len(envelope.recipients),
            size=kept.size,
            spf=verdict.spf.result if verdict.spf else "none",
            dkim=verdict.dkim_result,
            dmarc=verdict.dmarc.result,
        )
        return str(kept.id)

    async def _parse(self, message: RawMessage) -> ParsedMessage:
        if _has_cheap_header(message.raw) and len(message.raw) <= THREAD_BYTES:
            return parse_message(message.raw)
        return await self._aside.run(parse_message, message.raw)

    async def _refuse_loops(self, message: RawMessage) -> None:
        hosts = hosts_passed(message.fields)
        ours = [host for host in hosts if host == self._hostname or await self._is_mx_of_ours(host)]
        if len(hosts) > MAX_RECEIVED or len(ours) > MAX_RECEIVED_BY_US:
            raise Refused(554, "5.4.6", "this message goes round in a loop")

    async def _is_mx_of_ours(self, host: str) -> bool:
        if not host.startswith(self._mx_prefix):
            return False
        domain = await self._directory.domain(host.removeprefix(self._mx_prefix))
        return domain is not None and domain.verified

    async def _authenticate(self, envelope: Envelope, message: RawMessage) -> Verdict:
        spf = envelope.spf
        if spf is None:
            spf = await self.check_sender(envelope.client_ip, envelope.mail_from, envelope.helo)
        return await authenticate(
            self._resolver,
            message,
            ip=envelope.client_ip,
            mail_from=envelope.mail_from,
            helo=envelope.helo,
            hostname=self._hostname,
            now=time.time(),
            spf=spf,
            questions=MAX_QUESTIONS - SPF_QUESTIONS,
            seconds=MAX_SECONDS - SPF_SECONDS,
        )

    def _apply_dmarc(self, verdict: Verdict) -> None:
        """``smtp.dmarc_policy = reject``: what the author's domain asks for is done (RFC 9989 section 7)."""
        if self._dmarc_policy != "reject":
            return
        dmarc = verdict.dmarc
        if dmarc.result == "temperror":
            raise Refused(451, "4.7.1", "the sender's DMARC policy cannot be looked up now, try again later")
        if dmarc.result == "fail" and dmarc.policy == "reject":
            raise Refused(550, "5.7.1", f"refused as the DMARC policy of {dmarc.header_from} asks")

    def _disposition(self, verdict: Verdict) -> str:
        flagged = verdict.dmarc.result == "fail" and verdict.dmarc.policy in ("quarantine", "reject")
        return "quarantine" if self._dmarc_policy != "record" and flagged else "none"

    async def _homes(
        self, envelope: Envelope, message: RawMessage, parsed: ParsedMessage, verdict: Verdict
    ) -> dict[UUID, tuple[Inbox, Domain]]:
        """The inboxes that get a copy, each once.

        Bounces and complaints first settle the delivery they belong to; repeating that is harmless. What comes home to
        the return path of a forward and settles nothing is shown to the domain's owner, in the catch-all.
        """
        homes: dict[UUID, tuple[Inbox, Domain]] = {}
        report = Report()
        if may_be_report(envelope.mail_from, message, parsed) or any(one.return_path for one in envelope.recipients):
            author = parsed.from_.address if parsed.from_ else ""
            report = await self._aside.run(read_report, envelope.raw, speakers(verdict, author))
        for recipient in envelope.recipients:
            inbox, domain = recipient.inbox, recipient.domain
            if inbox is not None and inbox.id in homes and recipient.return_path is None:
                continue
            absorbed = await self._feedback.absorb(
                report=report,
                mail_from=envelope.mail_from,
                return_path=recipient.return_path,
                inbox=inbox,
                domain=domain,
                now=envelope.received_at,
            )
            if inbox is None and domain is not None and not absorbed:
                inbox = await self._directory.catch_all(domain)
                if inbox is None:
                    # The domain went away since RCPT: at the next try that is refused, and no other recipient with it.
                    raise Refused(451, "4.3.0", "a recipient's domain has just been removed, try again")
            if inbox is not None and domain is not None:
                homes.setdefault(inbox.id, (inbox, domain))
        return homes

    async def _posting(
        self,
        envelope: Envelope,
        message: Message,
        parsed: ParsedMessage,
        verdict: Verdict,
        homes: dict[UUID, tuple[Inbox, Domain]],
    ) -> Posting:
        """One copy per inbox, however many of the RCPTs lead there; forwards of each domain's rules; their events."""
        filings = tuple(filing_of(inbox) for inbox, _ in homes.values())
        events = [event_of(envelope, filing, verdict) for filing in filings]
        deliveries = []
        for domain in {domain.id: domain for _, domain in homes.values()}.values():
            forwarded, told = await self._forwarder.forwards(domain, envelope, message, parsed, verdict)
            deliveries += forwarded
            events += told
        return Posting(message, filings, tuple(deliveries), tuple(events))

    async def _write(self, posting: Posting) -> None:
        try:
            await self._writer.write(posting)
        except QuotaExceeded as full:
            self._admission.note_full(UUID(full.field), posting.message.size)
            if len(posting.filings) == 1:
                raise Refused(552, "5.2.2", "mailbox is full") from None
            # The others must not go without: at the next try RCPT refuses the full one alone.
            raise Refused(452, "4.2.2", "one of the mailboxes is full, try again") from None


async def _split(raw: bytes) -> RawMessage:
    return split_message(raw) if _has_cheap_header(raw) else await asyncio.to_thread(split_message, raw)


def _has_cheap_header(raw: bytes) -> bool:
    """Octet by octet a header costs far more to read than a body."""
    return len(raw) <= CHEAP_HEADER_BYTES or raw.find(b"\r\n\r\n", 0, CHEAP_HEADER_BYTES) > 0
