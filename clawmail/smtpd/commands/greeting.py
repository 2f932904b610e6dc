"""EHLO and HELO: who is there, and what may be asked for (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from clawmail.smtpd.replies import bad_argument

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session

#: a name or an address literal; more than that is not asked for, because what it says decides nothing here.
_NAME = re.compile(r"[^\s()<>\\\",;\ud800-\udfff]{1,255}")


async def ehlo(session: Session, argument: str) -> str:
    """Greets, and lists the extensions."""
    _meet(session, argument)
    session.extended = True
    lines = [session.service.hostname, *extensions(session)]
    return "\r\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])


async def helo(session: Session, argument: str) -> str:
    """Greets a client of the old kind: no extensions."""
    _meet(session, argument)
    session.extended = False
    return f"250 {session.service.hostname}"


def _meet(session: Session, argument: str) -> None:
    # RFC 2920 section 3.1: EHLO is the last command of a group. Whoever goes on is not listening.
    session.refuse_haste("sending commands behind EHLO before its reply")
    if not _NAME.fullmatch(argument):
        raise bad_argument("say your name: EHLO host.example")
    session.end_transaction()
    session.helo = argument


def extensions(session: Session) -> list[str]:
    """The keywords of EHLO's reply. BINARYMIME (RFC 3030) is not among them: nobody downstream could take it."""
    settings = session.service.settings
    offered = [
        "PIPELINING",
        f"SIZE {settings.max_message_bytes}",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        f"LIMITS RCPTMAX={settings.max_recipients}",
    ]
    if not session.tls:
        offered.append("STARTTLS")
        return offered
    # RFC 8689 section 3: offered only where TLS is already there.
    offered.append("REQUIRETLS")
    if session.role.submits:
        offered.append("AUTH PLAIN LOGIN")
    return offered
