"""One SMTP session, from greeting to farewell (RFC 5321).

``Session`` holds what is known of the client and reads commands; each command is a function of ``commands`` that takes
the session and its argument, and answers with a reply or raises ``Refused``. The rules that hold for every command are
here: what a line is, what nobody may send twenty times, what comes out of turn, and when it is enough.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address

from clawmail.base.errors import ClawmailError, StoreUnwell
from clawmail.base.ids import new_id
from clawmail.base.log import logger
from clawmail.base.tenant import current_tenant
from clawmail.core.envelope import Envelope, Refused
from clawmail.model.tenancy import Principal
from clawmail.protocol.dns import Address
from clawmail.protocol.networks import network_of
from clawmail.smtpd import proxy, replies
from clawmail.smtpd.connection import Connection, Disconnected, LineTooLong, TimedOut
from clawmail.smtpd.replies import BadCommand, Hangup, Interrupted
from clawmail.smtpd.service import Role, Service
from clawmail.smtpd.transaction import Identity, Transaction

#: words with which a web browser, or a page it shows, begins to talk to a port that is not its own.
HTTP_VERBS = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE"})
#: commands that may follow each other at hand before other sessions get their turn.
COMMANDS_AT_ONCE = 50
#: commands that bring no message any further; a sender that keeps a connection needs a few between messages.
MAX_IDLE_COMMANDS = 500
#: refusals of one session that are logged.
MAX_REFUSALS_LOGGED = 20

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

log = logger("smtp")


class Session(Connection):
    """A client, what it said so far, and what it may say next."""

    def __init__(
        self, service: Service, role: Role, loop: asyncio.AbstractEventLoop, begin: Callable[[Session], None]
    ) -> None:
        super().__init__(loop, begin)
        self.service = service
        self.role = role
        self.id = new_id().hex
        self.client_ip: Address = ip_address("0.0.0.0")
        #: what the client called itself; "" before HELO or EHLO.
        self.helo = ""
        #: EHLO, not HELO.
        self.extended = False
        self.principal: Principal | None = None
        self.transaction: Transaction | None = None
        self.stopping = False
        #: RCPTs refused in this session.
        self.refused_recipients = 0
        #: failed AUTHs in this session.
        self.failed_logins = 0
        self._entered = False
        self._bad_commands = 0
        self._idle_commands = 0
        self._refusals_logged = 0
        self._ends_at = loop.time() + service.settings.session_seconds

    # --- the course of a session -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves the client until one of the two has had enough. Never raises for what a client does."""
        try:
            await self._greet()
            await self._serve()
        except Disconnected:
            log.debug("disconnected", session=self.id, ip=str(self.client_ip))
        except TimedOut:
            await self._farewell(Hangup(421, "4.4.2", "timeout, closing"))
        except Interrupted:
            await self._farewell(Hangup(421, "4.3.2", "the server is stopping, try again later"))
        except LineTooLong as long:
            await self._farewell(Hangup(500, "5.5.2", f"line too long: {_printable(long.start)}"))
        except Hangup as last:
            await self._farewell(last)
        except OSError as error:
            log.info("connection failed", session=self.id, ip=str(self.client_ip), problem=str(error))
        except Exception:  # the unknown is logged once, here, and costs one session
            log.exception("session failed", session=self.id, ip=str(self.client_ip))
            await self._farewell(Hangup(421, "4.3.0", "internal error, closing"))
        finally:
            self.end_transaction()
            if self._entered:
                self.service.pacing.leave(self.client_ip)
            self.abort_unless_closing()

    async def _greet(self) -> None:
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        if not peer:
            raise Disconnected
        self.client_ip = _address(peer[0])
        if self.service.settings.proxy_protocol:
            self.client_ip = await proxy.client_behind(self, self.client_ip, self.service.trusted_proxies)
        self.service.pacing.enter(self.client_ip)
        self._entered = True
        current_tenant.set(network_of(self.client_ip))
        if self.service.health.unwell:
            raise Hangup(421, "4.3.2", "the store is not available, try again later")
        if self.role is Role.SUBMISSIONS:
            await self.secure(self.service.certificates.context)
        else:
            # One turn of the loop, so that what came with the connection is there to be seen.
            await asyncio.sleep(0)
        self.refuse_haste("talking before the greeting")
        log.debug("connect", session=self.id, ip=str(self.client_ip), role=self.role.value)
        await self.push(f"220 {self.service.hostname} ESMTP")

    async def _serve(self) -> None:
        at_hand = 0
        while True:
            if self.stopping and self.transaction is None:
                raise Interrupted
            try:
                reply = await self._command()
            except Hangup:
                raise
            except BadCommand as bad:
                reply = self._count_bad(bad)
            except Refused as refused:
                reply = replies.line(refused)
            except ClawmailError as error:
                reply = replies.line(self.translate(error))
            if reply:
                await self.push(reply)
            at_hand = at_hand + 1 if self.line_at_hand() else 0
            if at_hand >= COMMANDS_AT_ONCE:
                at_hand = 0
                await asyncio.sleep(0)

    async def _command(self) -> str | None:
        """Reads one command and does it."""
        line = await self.read_line(self.deadline(self.service.settings.command_timeout_seconds))
        verb, _, argument = line.rstrip(b"\r\n").partition(b" ")
        verb = verb.upper()
        if verb in HTTP_VERBS:
            raise Hangup(521, "5.5.1", "this is a mail server, it speaks no HTTP")
        if not line.endswith(b"\r\n"):
            raise BadCommand(500, "5.5.2", "a command ends with CRLF (RFC 5321 section 2.3.8)")
        if _CONTROL.search(line, 0, len(line) - 2):
            raise BadCommand(500, "5.5.2", "a command holds no control characters")
        command = self.service.commands.get(verb)
        if command is None:
            raise BadCommand(500, "5.5.1", f"command not recognised: {_printable(verb)}")
        if command.idle:
            self._count_idle()
        return await command.do(self, argument.decode("utf-8", "surrogateescape").rstrip(" "))

    def interrupt(self, *, at_once: bool = False) -> None:
        """The server stops: an idle session ends now, another one after its transaction unless ``at_once``."""
        self.stopping = True
        if at_once or self.transaction is None:
            self.stop_waiting(Interrupted())

    async def _farewell(self, last: Hangup) -> None:
        if last.code >= 500:
            self.log_refusal(last)
        elif last.code != 221:
            log.debug("farewell", session=self.id, ip=str(self.client_ip), reply=replies.line(last))
        await self.hang_up(replies.line(last))

    # --- what commands use -------------------------------------------------------------------------------------

    def deadline(self, seconds: float) -> float:
        """``seconds`` from now, or the end of the session if that is sooner; in the loop's time."""
        return min(self.loop.time() + seconds, self._ends_at)

    def refuse_haste(self, what: str) -> None:
        """Closes on a client that did not wait for our answer where it had to (RFC 2920 section 3.1)."""
        if self.input_waiting:
            raise Hangup(554, "5.5.1", f"{what} is not allowed here")

    def require_hello(self) -> None:
        """EHLO or HELO comes first."""
        if not self.helo:
            raise replies.out_of_turn("send EHLO first")

    def require_transaction(self) -> Transaction:
        """MAIL comes first."""
        self.require_hello()
        if self.transaction is None:
            raise replies.out_of_turn("send MAIL first")
        return self.transaction

    def end_transaction(self) -> None:
        """Forgets the envelope (RSET, EHLO, STARTTLS, and after each message)."""
        if self.transaction is not None:
            self.transaction.end()
            self.transaction = None

    def forget_client(self) -> None:
        """After STARTTLS nothing said before it counts (RFC 3207 section 4.2)."""
        self.end_transaction()
        self.helo = ""
        self.extended = False

    def translate(self, error: ClawmailError) -> Refused:
        """A use-case's error as a reply; an unwell store is remembered, so that new sessions are turned away."""
        if isinstance(error, StoreUnwell):
            self.service.health.failed(error)
        return replies.from_error(error)

    def log_refusal(self, refused: Refused, **facts: object) -> None:
        """One line for a refusal, for the first few of a session."""
        self._refusals_logged += 1
        if self._refusals_logged <= MAX_REFUSALS_LOGGED:
            log.info(
                "refused",
                session=self.id,
                ip=str(self.client_ip),
                helo=self.helo,
                reply=replies.line(refused),
                **facts,
            )

    def fill_envelope(self, transaction: Transaction, raw: bytes, identity: Identity | None) -> Envelope:
        """All that was said, for those who judge it."""
        return Envelope(
            raw=raw,
            mail_from=transaction.mail_from,
            recipients=tuple(transaction.recipients),
            client_ip=self.client_ip,
            helo=self.helo,
            protocol=self._protocol(transaction),
            received_at=datetime.now(UTC),
            session_id=self.id,
            tls=self.tls,
            client_name=identity.client_name if identity is not None else "",
            spf=identity.spf if identity is not None else None,
            smtputf8=transaction.smtputf8,
            require_tls=transaction.require_tls,
            ret=transaction.ret,
            envid=transaction.envid,
        )

    def message_done(self) -> None:
        """A message came to its end: a client that works may go on."""
        self._idle_commands = 0

    # --- enough is enough --------------------------------------------------------------------------------------

    def _protocol(self, transaction: Transaction) -> str:
        # RFC 3848; RFC 6531 section 4.3 for UTF8.
        word = "UTF8SMTP" if transaction.smtputf8 else "ESMTP" if self.extended else "SMTP"
        if word == "SMTP":
            return word
        return word + ("S" if self.tls else "") + ("A" if self.principal is not None else "")

    def _count_bad(self, bad: BadCommand) -> str:
        self._bad_commands += 1
        if self._bad_commands >= self.service.settings.max_bad_commands:
            raise Hangup(521, "5.5.1", "too many bad commands, closing")
        return replies.line(bad)

    def _count_idle(self) -> None:
        self._idle_commands += 1
        if self._idle_commands > MAX_IDLE_COMMANDS and self.service.pacing.enabled:
            raise Hangup(421, "4.7.0", "too many commands without a message, closing")


@lru_cache(maxsize=4096)
def _address(text: str) -> Address:
    """The peer's address; that of an IPv4 client at a socket for both families is an IPv4 address."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _printable(octets: bytes) -> str:
    """The first few octets of what a client sent, fit for a reply or the log."""
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else "?" for octet in octets[:32])
