"""What arrives as the rows of the store will have it: the message, its copy in an inbox, the event of that.

Pure functions from what ``core.receive`` was handed and found out to what the writer commits in one transaction.
"""

from __future__ import annotations

from clawmail.base.ids import new_id
from clawmail.core.authenticate import Verdict
from clawmail.core.described import described
from clawmail.core.envelope import Envelope
from clawmail.core.trace import received_field, return_path_field
from clawmail.model.events import Event, EventType
from clawmail.model.mail import Filing, Message, sender_warning
from clawmail.model.tenancy import Inbox
from clawmail.protocol.authres import results_field
from clawmail.protocol.mime.parse import ParsedMessage


def message_of(
    envelope: Envelope, verdict: Verdict, parsed: ParsedMessage, *, hostname: str, disposition: str
) -> Message:
    """The message as it is kept: the bytes as they came, our trace fields beside them, and what was read in it.

    ``hostname`` is ours; ``disposition`` is what was done about the author's policy (none or quarantine).
    """
    identifier = envelope.message_id or new_id()
    from_address = parsed.from_.address if parsed.from_ else ""
    trace = (
        return_path_field(envelope.mail_from)
        + received_field(envelope, hostname=hostname, queue_id=identifier)
        + results_field(verdict.authentication_results(hostname))
    )
    return Message(
        id=identifier,
        raw=envelope.raw,
        trace=trace,
        rfc_message_id=parsed.message_id,
        in_reply_to=parsed.in_reply_to,
        reference_ids=parsed.references,
        subject=parsed.subject or "",
        from_address=from_address or envelope.mail_from,
        from_name=parsed.from_.name if parsed.from_ else "",
        envelope_from=envelope.mail_from,
        sender_warning=sender_warning(from_address, envelope.mail_from),
        to_addresses=tuple(box.address for box in parsed.to if box.address),
        cc_addresses=tuple(box.address for box in parsed.cc if box.address),
        bcc_addresses=(),
        reply_to=tuple(box.address for box in parsed.reply_to if box.address),
        body_text=parsed.text,
        body_html=parsed.html,
        attachments=described(parsed),
        authentication={**verdict.as_api(), "disposition": disposition},
        received_at=envelope.received_at,
        notes=parsed.notes,
    )


def filing_of(inbox: Inbox) -> Filing:
    """A copy in ``inbox``, unread."""
    return Filing(new_id(), inbox.organisation_id, inbox.domain_id, inbox.id, "inbound", is_read=False)


def event_of(envelope: Envelope, filing: Filing, verdict: Verdict) -> Event:
    """That a copy was received."""
    return Event(
        id=new_id(),
        organisation_id=filing.organisation_id,
        domain_id=filing.domain_id,
        type=EventType.RECEIVED,
        at=envelope.received_at,
        inbox_id=filing.inbox_id,
        email_id=filing.email_id,
        detail={
            "from": envelope.mail_from,
            "ip": str(envelope.client_ip),
            "size": len(envelope.raw),
            "tls": envelope.tls or None,
            "dmarc": verdict.dmarc.result,
        },
    )
