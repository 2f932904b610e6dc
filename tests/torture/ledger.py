"""The ledger: what was promised, by whom and when, written down outside the server that is being tortured.

A promise is a 250 after the dot or a 201: from then on the message is the server's, whatever happens to it. An attempt
whose connection died before an answer is a doubt: the server may have kept the message or not, the client tries again,
and a second copy is explained by the doubt. Sinks write down every copy they took, and whether they had said 250.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

_MESSAGE_ID = re.compile(rb"^message-id:\s*(<[^>]*>)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Mail:
    """One message on its way in."""

    message_id: str
    sha256: bytes
    #: 250 was heard at this moment (monotonic seconds); None: it is still the client's.
    promised_at: float | None = None
    #: attempts that ended, after the last byte was sent, without an answer.
    doubts: int = 0
    #: replies after the dot that put it off, and when: the server may have lost its database in mid-commit.
    put_off: list[tuple[float, str]] = field(default_factory=list)


@dataclass
class Sent:
    """One message handed to the API, with the ids of the 201."""

    email_id: str
    message_id: str
    recipient: str
    promised_at: float


@dataclass
class Copy:
    """One copy that a sink took."""

    at: float
    #: the sink said 250.
    answered: bool
    #: address of the server that brought it.
    peer: str = ""


@dataclass
class Strike:
    """One fault: from when to when it did harm, and when the server was well again."""

    kind: str
    began: float
    #: the moment from which nothing was broken any more: the process was dead, the network whole, the disk free.
    over: float = 0.0
    ended: float = 0.0
    #: address of the server it struck; "": all of them.
    victim: str = ""
    #: seconds until the server worked again, counted from the end of the fault.
    recovered: float = 0.0
    note: str = ""


@dataclass
class Ledger:
    """Everything the partners of the server wrote down."""

    incoming: dict[str, Mail] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    copies: defaultdict[str, list[Copy]] = field(default_factory=lambda: defaultdict(list))
    strikes: list[Strike] = field(default_factory=list)
    #: answers that were no promise: "SMTP 451", "HTTP 503", "broken connection" …
    refusals: Counter[str] = field(default_factory=Counter)
    #: 5xx and 4xx answers that told a client to give up: nothing a healthy client should ever hear.
    turned_away: list[str] = field(default_factory=list)

    def expect(self, raw: bytes, message_id: str) -> Mail:
        """A message that a client is about to send."""
        mail = Mail(message_id, hashlib.sha256(raw).digest())
        self.incoming[message_id] = mail
        return mail

    def taken(self, data: bytes, *, answered: bool, peer: str = "") -> None:
        """A sink took a copy."""
        found = _MESSAGE_ID.search(data)
        self.copies[found[1].decode() if found else "(none)"].append(Copy(time.monotonic(), answered, peer))

    def struck_between(self, began: float, ended: float) -> list[Strike]:
        """The faults that held at some moment of that time."""
        return [s for s in self.strikes if s.began <= ended and (s.ended or ended) >= began]
