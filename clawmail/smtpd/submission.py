"""Mail of our own inboxes, handed in by a mail client (RFC 6409): from here on it is like a send over the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clawmail.core.envelope import Recipient, Refused
from clawmail.protocol.address import folded, parse_mailboxes
from clawmail.protocol.headers import split_message
from clawmail.smtpd.transaction import Transaction

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session


async def submit(session: Session, transaction: Transaction, raw: bytes) -> str:
    """Queues the message and returns its id. Raises Refused, or ClawmailError."""
    principal, send, count = session.principal, session.service.submit, session.service.count_send
    if principal is None or send is None:
        raise Refused(530, "5.7.0", "authenticate first")
    if count is not None:
        await count(str(session.client_ip), principal)
    _require_own_author(raw, principal.address or "")
    recipients = [recipient.address for recipient in transaction.recipients]
    wishes = {recipient.address: _wishes(recipient) for recipient in transaction.recipients}
    sent = await send(principal, raw, recipients, options=_options(transaction), wishes=wishes)
    return str(sent.id)


def _require_own_author(raw: bytes, address: str) -> None:
    """One From with one author, the inbox itself: a key must not speak for anybody else."""
    authors = [mailbox.address for field in split_message(raw).all(b"from") for mailbox in parse_mailboxes(field.value)]
    if [folded(author) for author in authors] != [folded(address)]:
        raise Refused(550, "5.7.1", f"From has to be {address}, and nobody else")


def _options(transaction: Transaction) -> dict[str, object]:
    """What the client asked of every delivery: DSN (RFC 3461), SMTPUTF8 (RFC 6531) and REQUIRETLS (RFC 8689)."""
    options: dict[str, object] = {
        "ret": transaction.ret,
        "envid": transaction.envid,
        "smtputf8": transaction.smtputf8,
        "require_tls": transaction.require_tls,
    }
    return {name: wish for name, wish in options.items() if wish}


def _wishes(recipient: Recipient) -> dict[str, object]:
    """And of the one to this recipient."""
    wishes = {"notify": recipient.notify, "orcpt": recipient.orcpt}
    return {name: wish for name, wish in wishes.items() if wish}
