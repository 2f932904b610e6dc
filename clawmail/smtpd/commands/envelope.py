"""MAIL and RCPT: the envelope (RFC 5321 sections 4.1.1.2 and 4.1.1.3, and the extensions that add parameters)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from clawmail.core.envelope import Recipient, Refused
from clawmail.protocol.address import folded, parse_address
from clawmail.smtpd import paths
from clawmail.smtpd.paths import Parameters
from clawmail.smtpd.replies import BadCommand, Hangup, bad_argument, out_of_turn, unknown_parameter
from clawmail.smtpd.transaction import Identity, Transaction

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session


async def mail(session: Session, argument: str) -> str:
    """Begins a transaction."""
    session.require_hello()
    if session.role.submits and session.principal is None:
        raise Refused(530, "5.7.0", "authenticate first" if session.tls else "send STARTTLS first")
    if session.transaction is not None:
        raise out_of_turn("a transaction is open already; RSET ends it")
    mailbox, parameters = paths.parse_path(argument, "FROM:")
    transaction = Transaction(mailbox)
    _apply_mail_parameters(session, transaction, parameters)
    _require_readable(mailbox, transaction)
    # The null sender is always welcome: it is how bounces come (RFC 5321 section 4.5.5).
    if mailbox and parse_address(mailbox) is None:
        raise Refused(553, "5.1.7", "the sender is not an address mail can be returned to")
    if session.principal is not None and mailbox and folded(mailbox) != folded(session.principal.address or ""):
        raise Refused(553, "5.7.1", f"this key sends as {session.principal.address} only")
    try:
        await session.service.pacing.begin_message(session.client_ip)
    except Refused:
        await _wait(session)
        raise
    session.transaction = transaction
    return "250 2.1.0 sender ok"


def _apply_mail_parameters(session: Session, transaction: Transaction, parameters: Parameters) -> None:
    if parameters and not session.extended:
        raise unknown_parameter("parameters need EHLO")
    for name, value in parameters.items():
        match name:
            case "SIZE":
                if paths.parse_size(value) > session.service.settings.max_message_bytes:
                    limit = session.service.settings.max_message_bytes
                    raise Refused(552, "5.3.4", f"at most {limit} octets are taken")
            case "BODY":
                _check_body(value)
            case "SMTPUTF8" if value is None:
                transaction.smtputf8 = True
            case "RET":
                match (value or "").upper():
                    case "FULL":
                        transaction.ret = "FULL"
                    case "HDRS":
                        transaction.ret = "HDRS"
                    case _:
                        raise bad_argument("RET=FULL or RET=HDRS (RFC 3461)")
            case "ENVID":
                transaction.envid = paths.parse_envid(value)
            case "REQUIRETLS" if value is None and session.tls:
                transaction.require_tls = True
            case "REQUIRETLS" if value is None:
                raise unknown_parameter("REQUIRETLS is offered inside TLS only")
            case "AUTH" if session.role.submits and session.tls and value:
                # RFC 4954 section 5: who first submitted it. Nobody here is trusted to say so, as section 5 allows.
                continue
            case _:
                raise unknown_parameter(f"parameter not known: {name}")


def _check_body(value: str | None) -> None:
    match (value or "").upper():
        case "7BIT" | "8BITMIME":
            return
        case "BINARYMIME":
            raise unknown_parameter("BINARYMIME is not offered here; encode the message and send BODY=8BITMIME")
        case _:
            raise bad_argument("BODY=7BIT or BODY=8BITMIME (RFC 6152)")


def _require_readable(mailbox: str, transaction: Transaction) -> None:
    if not mailbox.isascii() and not transaction.smtputf8:
        # RFC 6531 section 3.5
        raise Refused(553, "5.6.7", "an address with UTF-8 needs SMTPUTF8 at MAIL")


async def rcpt(session: Session, argument: str) -> str:
    """Adds a recipient."""
    transaction = session.require_transaction()
    if transaction.content is not None:
        raise out_of_turn("the message has begun already")
    mailbox, parameters = paths.parse_path(argument, "TO:")
    if parameters and not session.extended:
        raise unknown_parameter("parameters need EHLO")
    notify, orcpt = _rcpt_parameters(transaction, parameters)
    if not mailbox:
        raise BadCommand(501, "5.1.3", "RCPT TO:<address>")
    _require_readable(mailbox, transaction)
    if len(transaction.recipients) >= session.service.settings.max_recipients:
        # RFC 5321 section 4.5.3.1.10: 452, so that the client sends the others the message anew.
        raise Refused(452, "4.5.3", f"at most {session.service.settings.max_recipients} recipients a message")
    try:
        recipient = await _judge(session, transaction, mailbox)
    except Refused as refused:
        await _slow_down(session, transaction, refused, mailbox)
        raise
    if notify is not None or orcpt is not None:
        recipient = replace(recipient, notify=notify, orcpt=orcpt)
    transaction.recipients.append(recipient)
    return "250 2.1.5 recipient ok"


def _rcpt_parameters(transaction: Transaction, parameters: Parameters) -> tuple[tuple[str, ...] | None, str | None]:
    notify = orcpt = None
    for name, value in parameters.items():
        match name:
            case "NOTIFY":
                notify = paths.parse_notify(value)
            case "ORCPT":
                orcpt = paths.parse_orcpt(value, smtputf8=transaction.smtputf8)
            case _:
                raise unknown_parameter(f"parameter not known: {name}")
    return notify, orcpt


async def _judge(session: Session, transaction: Transaction, mailbox: str) -> Recipient:
    service = session.service
    if session.principal is not None:
        address = parse_address(mailbox)
        if address is None:
            raise Refused(553, "5.1.3", "this is not an address mail can be sent to")
        return Recipient(str(address), None, None)
    recipient = await service.receiver.judge_recipient(mailbox)
    if transaction.identity is None:
        transaction.identity = asyncio.create_task(_identify(session, transaction))
    if service.strangers is not None:
        spf = (await transaction.identity).spf if service.strangers.wants_spf else None
        await service.strangers.judge(session.client_ip, session.helo, transaction.mail_from, recipient, spf)
    return recipient


async def _identify(session: Session, transaction: Transaction) -> Identity:
    service = session.service
    spf = await service.receiver.check_sender(session.client_ip, transaction.mail_from, session.helo)
    name = await service.strangers.client_name(session.client_ip) if service.strangers is not None else ""
    return Identity(spf, name)


async def _slow_down(session: Session, transaction: Transaction, refused: Refused, mailbox: str) -> None:
    """Whoever tries out names waits longer for each answer, and not for ever."""
    transaction.refused += 1
    session.log_refusal(refused, mail_from=transaction.mail_from, rcpt=mailbox)
    pacing = session.service.pacing
    if refused.code < 500 or not pacing.enabled:
        return
    session.refused_recipients += 1
    if session.refused_recipients > session.service.settings.max_unknown_recipients:
        raise Hangup(421, "4.7.0", "too many refused recipients, closing")
    await _wait(session)


async def _wait(session: Session) -> None:
    """Before a refusal: who tries again at once, on many connections, would take the loop from everybody else."""
    await session.flush(session.deadline(session.service.settings.command_timeout_seconds))
    await asyncio.sleep(session.service.settings.tarpit_seconds)
