"""The door: its listeners, the sessions behind them, and how they come to an end.

One asyncio server for each address; every connection becomes a ``Session`` with a task of its own, which this class
owns. Stopping is graceful: no new connections, idle sessions are sent away with 421, and a transaction that is under
way may finish within the grace period.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from clawmail.base.log import logger
from clawmail.base.settings import Settings
from clawmail.config import cannot_listen, parse_listener
from clawmail.core.rates import Rates
from clawmail.smtpd.commands import COMMANDS
from clawmail.smtpd.health import Health, Probe
from clawmail.smtpd.pacing import Pacing
from clawmail.smtpd.proxy import parse_networks
from clawmail.smtpd.service import Authenticates, Counts, Judges, Receives, Role, Service, Submits
from clawmail.smtpd.session import Session
from clawmail.smtpd.tls import Certificates

#: connections that the kernel keeps until they are taken.
BACKLOG = 1024
#: seconds for the last replies of sessions that were cut off at the end of the grace period.
LAST_WORDS_SECONDS = 2.0

log = logger("smtp")


class SmtpDoor:
    """All listeners of one process."""

    def __init__(
        self,
        settings: Settings,
        receiver: Receives,
        *,
        rates: Rates | None = None,
        strangers: Judges | None = None,
        authenticate: Authenticates | None = None,
        submit: Submits | None = None,
        count_send: Counts | None = None,
        probe: Probe | None = None,
    ) -> None:
        """``rates``: what strangers take of all processes; None: of this one alone.

        ``probe`` raises StoreUnwell while the store does not answer; it is called every two seconds.
        """
        self._settings = settings
        self._certificates = Certificates(
            settings.smtp, hostname=settings.hostname, data_dir=Path(settings.server.data_dir)
        )
        self._health = Health(probe)
        self._service = Service(
            settings=settings.smtp,
            hostname=settings.hostname,
            commands=COMMANDS,
            receiver=receiver,
            certificates=self._certificates,
            pacing=Pacing(settings.smtp, rates or Rates(None), enabled=settings.limits.enabled),
            health=self._health,
            strangers=strangers,
            trusted_proxies=parse_networks(settings.smtp.proxy_networks),
            authenticate=authenticate,
            submit=submit,
            count_send=count_send,
        )
        self._servers: list[asyncio.Server] = []
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._watchers: list[asyncio.Task[None]] = []
        #: where it listens, in the order of the settings: (host, port), the port as bound.
        self.addresses: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Loads certificates and opens every listener. Raises OSError or ValueError, and leaves none open then."""
        await asyncio.to_thread(self._certificates.load)
        smtp = self._settings.smtp
        try:
            await self._listen("smtp.listen", smtp.listen, Role.EXCHANGE)
            await self._listen("smtp.submission_listen", smtp.submission_listen, Role.SUBMISSION)
            await self._listen("smtp.submissions_listen", smtp.submissions_listen, Role.SUBMISSIONS)
        except OSError:
            await self.stop(0)
            raise
        self._watchers = [
            asyncio.create_task(self._health.watch(), name="watch the store"),
            asyncio.create_task(self._certificates.watch(), name="watch certificates"),
        ]

    async def _listen(self, setting: str, listeners: Sequence[str], role: Role) -> None:
        for listener in listeners:
            host, port = parse_listener(listener)
            try:
                server = await asyncio.get_running_loop().create_server(
                    lambda: self._session(role),
                    host,
                    port,
                    backlog=BACKLOG,
                    reuse_port=True if self._settings.server.workers > 1 else None,
                )
            except OSError as error:
                raise cannot_listen(error, setting, listener) from error
            self._servers.append(server)
            self.addresses += [socket.getsockname()[:2] for socket in server.sockets]

    def _session(self, role: Role) -> Session:
        loop = asyncio.get_running_loop()
        return Session(self._service, role, loop, self._begin)

    def _begin(self, session: Session) -> None:
        task = session.loop.create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]

    async def stop(self, grace: float) -> None:
        """Ends it all: ``grace`` in seconds is what transactions under way get."""
        for server in self._servers:
            server.close()
        for session in self._sessions.values():
            session.interrupt()
        if self._sessions and grace > 0:
            await asyncio.wait(self._sessions, timeout=grace)
        for session in self._sessions.values():
            session.interrupt(at_once=True)
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=LAST_WORDS_SECONDS)
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._service.pacing.close()
        self._servers.clear()
        self._watchers.clear()

    def reload_certificates(self) -> None:
        """Reads the certificates anew, now; a broken file leaves the ones in use."""
        self._certificates.reload()

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._sessions)
