"""STARTTLS (RFC 3207) and AUTH (RFC 4954)."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING

from clawmail.base.errors import Unauthenticated
from clawmail.core.envelope import Refused
from clawmail.protocol.address import folded
from clawmail.smtpd.connection import LONG_COMMAND_BYTES
from clawmail.smtpd.replies import BadCommand, Hangup, bad_argument, out_of_turn

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session

#: wrong keys of one session, the last of which closes it, and seconds each is answered late.
MAX_FAILED_LOGINS = 3
FAILED_LOGIN_SECONDS = 1.0


async def starttls(session: Session, argument: str) -> None:
    """Puts TLS under the conversation. Whatever was said before, or sent along, counts no more (RFC 3207 4.2)."""
    session.require_hello()
    if argument:
        raise bad_argument("STARTTLS takes no argument")
    if session.tls:
        raise out_of_turn("this is TLS already")
    if session.transaction is not None:
        raise out_of_turn("a transaction is open; RSET ends it")
    await session.push("220 2.0.0 ready")
    await session.flush(session.deadline(session.service.settings.command_timeout_seconds))
    session.forget_client()
    session.drop_input()
    await session.secure(session.service.certificates.context)


async def auth(session: Session, argument: str) -> str:
    """Proves which inbox the client sends for, by its key: PLAIN (RFC 4616) or LOGIN, inside TLS only."""
    authenticate = session.service.authenticate
    if not session.role.submits or authenticate is None:
        raise BadCommand(502, "5.5.1", "there is no AUTH here; submission has ports of its own")
    session.require_hello()
    if not session.tls:
        raise Refused(538, "5.7.11", "send STARTTLS first")
    if session.principal is not None or session.transaction is not None:
        raise out_of_turn("AUTH comes once, before MAIL")
    mechanism, _, initial = argument.partition(" ")
    match mechanism.upper():
        case "PLAIN":
            address, key = _plain(await _response(session, "", initial))
        case "LOGIN":
            address = _text(await _response(session, "Username:", initial))
            key = _text(await _response(session, "Password:", ""))
        case _:
            raise Refused(504, "5.5.4", "PLAIN or LOGIN")
    try:
        session.principal = await authenticate(address, key)
    except Unauthenticated as wrong:
        await _count_failure(session, address)
        raise Refused(535, "5.7.8", wrong.message) from None
    return "235 2.7.0 authenticated"


async def _response(session: Session, challenge: str, initial: str) -> bytes:
    """What the client answers to a challenge, decoded; ``initial`` is what it answered before it was asked."""
    if not initial:
        await session.push(f"334 {base64.b64encode(challenge.encode()).decode()}")
        limit = session.deadline(session.service.settings.command_timeout_seconds)
        line = await session.read_line(limit, LONG_COMMAND_BYTES)
        initial = line.rstrip(b"\r\n").decode("ascii", "replace")
    if initial == "*":
        raise BadCommand(501, "5.7.0", "as you wish")
    if initial == "=":
        # RFC 4954 section 4: an empty initial response.
        return b""
    try:
        return base64.b64decode(initial, validate=True)
    except (binascii.Error, ValueError):
        raise BadCommand(501, "5.5.2", "this is no base64") from None


def _plain(message: bytes) -> tuple[str, str]:
    # message = [authzid] UTF8NUL authcid UTF8NUL passwd      (RFC 4616 section 2)
    parts = message.split(b"\0")
    if len(parts) != 3:
        raise BadCommand(501, "5.5.2", "PLAIN is authzid NUL address NUL key")
    authzid, address, key = map(_text, parts)
    if authzid and folded(authzid) != folded(address):
        raise Refused(535, "5.7.8", "nobody acts for somebody else here")
    return address, key


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise BadCommand(501, "5.5.2", "this is no UTF-8") from None


async def _count_failure(session: Session, address: str) -> None:
    session.failed_logins += 1
    session.log_refusal(Refused(535, "5.7.8", "wrong address or key"), address=address)
    if session.failed_logins >= MAX_FAILED_LOGINS:
        raise Hangup(421, "4.7.0", "too many wrong keys, closing")
    if session.service.pacing.enabled:
        await asyncio.sleep(FAILED_LOGIN_SECONDS)
