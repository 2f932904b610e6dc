"""A mail transaction: what MAIL began and the end of the message, RSET, EHLO or QUIT ends (RFC 5321 section 3.3)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from clawmail.core.envelope import Recipient
from clawmail.protocol.spf.check import SpfResult
from clawmail.smtpd.data import Collector
from clawmail.smtpd.pacing import Load


class Identity(NamedTuple):
    """What the DNS says about who is sending."""

    spf: SpfResult
    #: forward-confirmed; "" without one.
    client_name: str


@dataclass(slots=True)
class Transaction:
    """The envelope as it grows."""

    #: as written; "" is the null sender.
    mail_from: str
    smtputf8: bool = False
    require_tls: bool = False
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    recipients: list[Recipient] = field(default_factory=list)
    #: RCPTs that were refused.
    refused: int = 0
    #: found out from the first accepted RCPT on, while the message is still on its way.
    identity: asyncio.Task[Identity] | None = None
    #: the message, once DATA or BDAT has begun it, and the memory it takes.
    content: Collector | None = None
    load: Load | None = None

    def end(self) -> None:
        """Nothing of it is needed any more."""
        if self.identity is not None:
            self.identity.cancel()
        if self.load is not None:
            self.load.release()
