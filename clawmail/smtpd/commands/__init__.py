"""The commands, one function each: the session and the argument in, the reply out, or ``Refused`` raised."""

from __future__ import annotations

from clawmail.smtpd.commands import content, envelope, greeting, security, simple
from clawmail.smtpd.service import Command

COMMANDS: dict[bytes, Command] = {
    b"EHLO": Command(greeting.ehlo, idle=True),
    b"HELO": Command(greeting.helo, idle=True),
    b"STARTTLS": Command(security.starttls, idle=True),
    b"AUTH": Command(security.auth, idle=True),
    b"MAIL": Command(envelope.mail, idle=True),
    b"RCPT": Command(envelope.rcpt),
    b"DATA": Command(content.data),
    b"BDAT": Command(content.bdat),
    b"RSET": Command(simple.rset, idle=True),
    b"NOOP": Command(simple.noop, idle=True),
    b"HELP": Command(simple.help_, idle=True),
    b"VRFY": Command(simple.vrfy, idle=True),
    b"EXPN": Command(simple.expn, idle=True),
    b"QUIT": Command(simple.quit_),
}
