"""Submission: from what a caller wants to send to a signed message in the queue, committed.

All dialects end here. A draft is checked, composed, signed with the domain's DKIM key and written in one transaction:
the message, the sender's own copy, one delivery per recipient, their events, the answer for a repeated request. Only
then does the caller get his 201.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from html import escape
from uuid import UUID

from clawmail.base.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.core.aside import Aside
from clawmail.core.directory import Directory
from clawmail.core.outgoing import Ready, ReturnPaths, deliveries_of, event_of, kept_answer, message_of
from clawmail.core.recipients import Recipients, mailboxes, one_mailbox
from clawmail.core.signing import Signers
from clawmail.core.writer import Writer
from clawmail.model.mail import Filing, Message, Posting
from clawmail.model.outgoing import Idempotency, OutgoingMail, Sent
from clawmail.model.tenancy import Domain, Principal
from clawmail.protocol.address import folded
from clawmail.protocol.mime.compose import Draft, File, Written, write
from clawmail.protocol.mime.encode import ComposeError
from clawmail.protocol.mime.parse import ParsedMessage, attachment_content, parse_message, parse_written
from clawmail.protocol.mime.reply import forward_subject, forwarded_html, forwarded_text, reference_chain, reply_subject
from clawmail.protocol.submission import authors_of, complete_submission
from clawmail.store import originals, postings
from clawmail.store.db import Database
from clawmail.store.originals import Original

#: drafts larger than this are composed in a thread, in bytes of text and files.
THREAD_BYTES = 128 * 1024

log = logger("submit")


class Submitter:
    """Takes mail from inboxes for sending."""

    def __init__(
        self,
        db: Database,
        directory: Directory,
        writer: Writer,
        signers: Signers,
        aside: Aside,
        *,
        max_message_bytes: int,
        max_recipients: int,
        return_path: ReturnPaths | None = None,
    ) -> None:
        """``return_path``: makes an envelope sender for each delivery; None: mail leaves with the inbox's address."""
        self._db = db
        self._directory = directory
        self._writer = writer
        self._signers = signers
        self._aside = aside
        self._max_message_bytes = max_message_bytes
        self._max_recipients = max_recipients
        self._return_path = return_path

    async def send(self, principal: Principal, mail: OutgoingMail, idempotency: Idempotency | None = None) -> Sent:
        """A new mail from the caller's inbox. Raises Invalid (naming the field), TooLarge, QuotaExceeded."""
        if not mail.text and not mail.html:
            raise Invalid("text or html is required", field="text")
        return await self._send(principal, mail, idempotency)

    async def reply(
        self, principal: Principal, email_id: UUID, mail: OutgoingMail, idempotency: Idempotency | None = None
    ) -> Sent:
        """An answer to one of the caller's emails, in its thread; the answered email becomes read.

        It goes to ``mail.to`` if that is given, else to the original's Reply-To or From; for an original that the
        caller sent himself, to its first recipient. Raises NotFound, and what ``send`` raises.
        """
        if not mail.text and not mail.html:
            raise Invalid("text or html is required", field="text")
        original = await self._original(principal, email_id)
        answer = replace(
            mail, to=mail.to or _answered(original), subject=mail.subject or reply_subject(original.subject)
        )
        return await self._send(principal, answer, idempotency, answers=original)

    async def forward(
        self, principal: Principal, email_id: UUID, mail: OutgoingMail, idempotency: Idempotency | None = None
    ) -> Sent:
        """One of the caller's emails sent on as a new mail: its texts quoted below ``mail``'s, its files attached."""
        original = await self._original(principal, email_id)
        parsed, files = await self._aside.run(_taken_apart, original.raw)
        forwarded = replace(
            mail,
            subject=mail.subject or forward_subject(original.subject),
            text=forwarded_text(parsed, mail.text),
            html=forwarded_html(parsed, _html_comment(mail, parsed)),
        )
        return await self._send(principal, forwarded, idempotency, files=files)

    async def submit_raw(
        self,
        principal: Principal,
        raw: bytes,
        recipients: Sequence[str],
        *,
        options: dict[str, object] | None = None,
        wishes: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Sent:
        """A finished message from a mail client (RFC 6409), for exactly the envelope's ``recipients``.

        ``options`` are of every delivery, ``wishes`` of the one to an address (``notify``, ``orcpt``). The message's
        one author must be the caller's own inbox. A missing Date or Message-ID is added, Bcc is taken out, nothing else
        is touched. Raises Forbidden for another author, and what ``send`` raises.
        """
        domain = await self._domain(principal)
        if authors_of(raw) != [folded(principal.address or "")]:
            raise Forbidden(f"From has to be {principal.address}, and nobody else")
        raw = complete_submission(raw, domain.name, datetime.now(UTC))
        envelope = Recipients.of_envelope(recipients, limit=self._max_recipients)
        signed = await _joined(await self._signers.sign(domain, raw), raw)
        ready = Ready(domain, signed, envelope, datetime.now(UTC), None, options=options, wishes=wishes or {})
        return await self._post(principal, ready, await self._read(signed))

    async def _send(
        self,
        principal: Principal,
        mail: OutgoingMail,
        idempotency: Idempotency | None,
        *,
        answers: Original | None = None,
        files: tuple[File, ...] = (),
    ) -> Sent:
        domain = await self._domain(principal)
        recipients = Recipients.of_mail(mail, limit=self._max_recipients)
        now = datetime.now(UTC)
        draft = self._draft(principal, domain, mail, recipients, now, answers, files)
        written = await self._compose(draft)
        size = len(written.raw)
        if size > self._max_message_bytes:
            raise TooLarge(f"the message is {size} bytes; at most {self._max_message_bytes} can be sent")
        signed = await _joined(await self._signers.sign(domain, written.raw), written.raw)
        parsed = await self._read(signed) if draft.attachments else parse_written(signed, written.text, written.html)
        ready = Ready(
            domain,
            signed,
            recipients,
            now,
            mail.send_at,
            thread_id=answers.thread_id if answers else None,
            answers=answers.id if answers else None,
        )
        return await self._post(principal, ready, parsed, idempotency)

    def _draft(
        self,
        principal: Principal,
        domain: Domain,
        mail: OutgoingMail,
        recipients: Recipients,
        now: datetime,
        answers: Original | None,
        files: tuple[File, ...],
    ) -> Draft:
        own = tuple(File(a.filename, a.content_type, a.content) for a in mail.attachments)
        return Draft(
            from_=one_mailbox(principal.address or ""),
            to=recipients.to,
            cc=recipients.cc,
            reply_to=mailboxes(mail.reply_to, "reply_to"),
            subject=mail.subject,
            text=mail.text,
            html=mail.html,
            attachments=own + files,
            headers=dict(mail.headers),
            in_reply_to=answers.rfc_message_id if answers else None,
            references=reference_chain(answers.reference_ids, answers.in_reply_to, answers.rfc_message_id)
            if answers
            else (),
            message_id=f"<{new_id()}@{domain.name}>",
            date=now,
        )

    @staticmethod
    async def _compose(draft: Draft) -> Written:
        size = len(draft.text or "") + len(draft.html or "") + sum(len(a.content) for a in draft.attachments)
        try:
            return write(draft) if size <= THREAD_BYTES else await asyncio.to_thread(write, draft)
        except ComposeError as error:
            raise Invalid(str(error), field=error.field) from None

    async def _domain(self, principal: Principal) -> Domain:
        domain = await self._directory.domain(principal.domain_name)
        if domain is None or not domain.verified:
            raise Conflict("Domain is not verified")
        return domain

    async def _original(self, principal: Principal, email_id: UUID) -> Original:
        if principal.inbox_id is None:
            raise NotFound("Email not found")
        async with self._db.connection() as conn:
            found = await originals.original(conn, email_id, principal.inbox_id)
        if found is None:
            raise NotFound("Email not found")
        return found

    async def _read(self, raw: bytes) -> ParsedMessage:
        return await self._aside.run(parse_message, raw) if len(raw) > THREAD_BYTES else parse_message(raw)

    async def _post(
        self, principal: Principal, ready: Ready, parsed: ParsedMessage, idempotency: Idempotency | None = None
    ) -> Sent:
        assert principal.inbox_id is not None
        message = message_of(ready, principal, parsed)
        thread_id = ready.thread_id or await self._thread_of(principal.inbox_id, message)
        email_id = new_id()
        opened = thread_id or new_id()  # known before it is written: the answer that is kept names it
        filing = Filing(
            email_id,
            principal.organisation_id,
            principal.domain_id,
            principal.inbox_id,
            "outbound",
            is_read=True,
            thread_id=thread_id,
            new_thread_id=opened,
            answers=ready.answers,
        )
        deliveries = deliveries_of(ready, principal, email_id, self._return_path)
        sent = Sent(email_id, message.rfc_message_id or "", opened, message.received_at)
        posting = Posting(
            message,
            (filing,),
            deliveries,
            tuple(event_of(delivery) for delivery in deliveries),
            kept_answer(principal.inbox_id, idempotency, sent),
        )
        await self._writer.write(posting)
        log.info("queued", id=str(sent.id), mail_from=principal.address, rcpt=len(deliveries), size=message.size)
        return sent

    async def _thread_of(self, inbox_id: UUID, message: Message) -> UUID | None:
        """The thread that a custom In-Reply-To or References puts a new mail into. A mail without them asks nobody."""
        if not message.in_reply_to and not message.reference_ids:
            return None
        async with self._db.connection() as conn:
            return await postings.find_thread(conn, inbox_id, message)


def _answered(original: Original) -> tuple[str, ...]:
    """Whom a reply goes to (RFC 5322 section 3.6.2)."""
    if original.direction == "outbound":
        return tuple(original.to_addresses[:1])
    return tuple(original.reply_to) or (original.from_address,)


async def _joined(top: bytes, raw: bytes) -> bytes:
    """``top`` before ``raw``. ``bytes.join``, unlike "+", lets go of the interpreter for the 15 ms of a large copy."""
    return top + raw if len(raw) <= THREAD_BYTES else await asyncio.to_thread(b"".join, (top, raw))


def _taken_apart(raw: bytes) -> tuple[ParsedMessage, tuple[File, ...]]:
    parsed = parse_message(raw)
    files = (File(a.filename, a.content_type, attachment_content(raw, a.index) or b"") for a in parsed.attachments)
    return parsed, tuple(files)


def _html_comment(mail: OutgoingMail, original: ParsedMessage) -> str | None:
    """The caller's words for the HTML body, which is there only if he or the original has one."""
    if mail.html is None and mail.text and original.html is not None:
        return f"<p>{escape(mail.text)}</p>"
    return mail.html
