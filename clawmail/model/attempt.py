"""What one attempt at a delivery brought, as the facts that decide and that people are shown."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from clawmail.model.delivery import ReplyBy
from clawmail.protocol.replies import Reply


class Stage(enum.StrEnum):
    """How far a conversation came: where the reply that ended it was given."""

    #: no host to dial was found.
    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    TLS = "tls"
    MAIL = "mail"
    RCPT = "rcpt"
    #: the DATA or BDAT command, before the message was sent.
    DATA = "data"
    #: the message was sent: if no reply came, nobody knows whether it was taken.
    DOT = "dot"
    #: we did not try: the message does not fit what the host can take.
    LOCAL = "local"


#: stages at which a failure is the host's, not the message's: another host may do better.
OF_THE_HOST = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.TLS})


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """How a connection was protected."""

    #: "TLSv1.3".
    version: str
    cipher: str
    #: what the certificate was held against: "" nothing, "pkix" (RFC 8461), "dane" (RFC 7672).
    verified: str = ""

    def __str__(self) -> str:
        return f"{self.version} {self.cipher}" + (f" verified by {self.verified}" if self.verified else "")


@dataclass(frozen=True, slots=True)
class Try:
    """One host that was tried for a delivery."""

    #: name of the MX; "" if none was found.
    host: str
    ip: str
    stage: Stage
    reply: Reply
    tls: TlsFacts | None = None
    #: from the start of the try to its reply.
    seconds: float = 0.0
    #: the host reports on delivery by itself, as it was asked to (RFC 3461).
    reports: bool = False
    #: ``host`` is this installation: mail within the house.
    house: bool = False

    @property
    def reply_by(self) -> ReplyBy | None:
        """Who gave the reply; None when the words are ours."""
        if self.reply.ours:
            return None
        return "house" if self.house else "host"

    @property
    def ambiguous(self) -> bool:
        """The message left and no reply came: a further attempt may make a second copy."""
        return self.stage is Stage.DOT and self.reply.ours


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at one delivery ended: its hosts in the order tried, the last one's reply decides."""

    tries: tuple[Try, ...]

    @property
    def last(self) -> Try:
        """The try that decides."""
        return self.tries[-1]

    @property
    def reply(self) -> Reply:
        """The reply that decides."""
        return self.tries[-1].reply

    @property
    def delivered(self) -> bool:
        """The host took the message over (RFC 5321 section 4.2.5)."""
        return self.last.stage is Stage.DOT and self.reply.positive
