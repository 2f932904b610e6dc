"""What every session of the door shares, passed in once, and the roles a listener can have."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from clawmail.base.settings import Smtp
from clawmail.core.envelope import Envelope, Recipient
from clawmail.model.tenancy import Principal
from clawmail.protocol.dns import Address
from clawmail.protocol.spf.check import SpfResult
from clawmail.smtpd.health import Health
from clawmail.smtpd.pacing import Pacing
from clawmail.smtpd.proxy import Network
from clawmail.smtpd.tls import Certificates


class Command(NamedTuple):
    """How a verb is done: a function of ``commands`` that takes the session and the argument."""

    #: returns the reply; None if it has replied itself.
    do: Callable[[Any, str], Awaitable[str | None]]
    #: it brings no message any further.
    idle: bool = False


class Receives(Protocol):
    """``core.receive.Receiver``, or a scripted one."""

    async def judge_recipient(self, address: str) -> Recipient:
        """Where mail for it goes. Raises Refused or ClawmailError."""
        ...

    async def check_sender(self, ip: Address, mail_from: str, helo: str) -> SpfResult:
        """SPF."""
        ...

    async def receive(self, envelope: Envelope) -> str:
        """Keeps the message and returns its queue id after the commit. Raises Refused or ClawmailError."""
        ...

    def on_its_way(self) -> AbstractContextManager[None]:
        """See ``core.receive.Receiver.on_its_way``."""
        ...

    async def give_way(self, seconds: float) -> None:
        """Rests after a piece of a large message that took ``seconds``, while others have small ones."""
        ...


class Judges(Protocol):
    """``core.strangers.Strangers``: the optional checks of who knocks."""

    async def client_name(self, ip: Address) -> str:
        """The forward-confirmed name of the client, "" without one."""
        ...

    async def judge(self, ip: Address, helo: str, mail_from: str, recipient: Recipient, spf: SpfResult | None) -> None:
        """At each RCPT that leads somewhere. Raises Refused or ClawmailError."""
        ...

    @property
    def wants_spf(self) -> bool:
        """Whether ``judge`` needs to know SPF's verdict."""
        ...


class Authenticates(Protocol):
    """``core.access.Access.inbox``."""

    async def __call__(self, address: str, key: str) -> Principal:
        """Who this key is. Raises Unauthenticated."""
        ...


class Submits(Protocol):
    """``core.submit.Submitter.submit_raw``."""

    async def __call__(
        self,
        principal: Principal,
        raw: bytes,
        recipients: Sequence[str],
        *,
        options: dict[str, object] | None = None,
        wishes: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Any:
        """Queues a finished message; the result has an ``id``. Raises ClawmailError."""
        ...


class Counts(Protocol):
    """``core.limits.Limits.count_send``."""

    async def __call__(self, client_ip: str, principal: Principal) -> None:
        """Counts a message handed in. Raises RateLimited for one too many."""
        ...


class Role(enum.Enum):
    """What a listener is for."""

    #: port 25: mail from other servers, for our domains only, never AUTH.
    EXCHANGE = "exchange"
    #: port 587: mail of our inboxes, after STARTTLS and AUTH (RFC 6409).
    SUBMISSION = "submission"
    #: port 465: the same inside TLS from the first octet (RFC 8314 section 3.3).
    SUBMISSIONS = "submissions"

    @property
    def submits(self) -> bool:
        """AUTH is offered and needed."""
        return self is not Role.EXCHANGE


@dataclass(frozen=True, slots=True)
class Service:
    """Passed to every session."""

    settings: Smtp
    #: our name in the greeting and in EHLO.
    hostname: str
    #: what a client may say, by verb in upper case.
    commands: Mapping[bytes, Command]
    receiver: Receives
    certificates: Certificates
    pacing: Pacing
    health: Health
    #: None: no check beyond the recipient's own.
    strangers: Judges | None = None
    #: networks that may say on whose behalf they connect.
    trusted_proxies: Sequence[Network] = ()
    #: both None: no submission.
    authenticate: Authenticates | None = None
    submit: Submits | None = None
    #: None: an inbox may hand in as much as it likes.
    count_send: Counts | None = None
    #: one large message at a time is put together, because it is in memory twice meanwhile.
    joining: asyncio.Lock = field(default_factory=asyncio.Lock)
