"""RSET, NOOP, HELP, VRFY, EXPN and QUIT (RFC 5321 sections 4.1.1.5 to 4.1.1.10)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clawmail.smtpd.replies import Hangup, bad_argument

if TYPE_CHECKING:
    from clawmail.smtpd.session import Session


async def rset(session: Session, argument: str) -> str:
    """Forgets the transaction."""
    if argument:
        raise bad_argument("RSET takes no argument")
    session.end_transaction()
    return "250 2.0.0 forgotten"


async def noop(session: Session, argument: str) -> str:
    """Nothing."""
    return "250 2.0.0 ok"


async def help_(session: Session, argument: str) -> str:
    """Where to read."""
    return "214 2.0.0 see RFC 5321"


async def vrfy(session: Session, argument: str) -> str:
    """Says nothing about who has a mailbox here (RFC 5321 section 7.3)."""
    return "252 2.5.0 send mail and see"


async def expn(session: Session, argument: str) -> str:
    """Says nothing about lists either."""
    return "252 2.5.0 send mail and see"


async def quit_(session: Session, argument: str) -> None:
    """Goodbye."""
    raise Hangup(221, "2.0.0", "goodbye")
