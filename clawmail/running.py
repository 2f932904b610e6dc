"""Everything that runs in one process, opened in order and closed in reverse with one grace period for all."""

from __future__ import annotations

from dataclasses import dataclass

from clawmail.api.server import ApiServer
from clawmail.api.services import Services
from clawmail.base.settings import Settings
from clawmail.core.access import Access
from clawmail.core.aside import Aside
from clawmail.core.clock import HouseClock
from clawmail.core.directory import Directory
from clawmail.core.signing import Signers
from clawmail.core.upkeep import Upkeep
from clawmail.core.writer import Writer
from clawmail.net.resolver import DnsResolver
from clawmail.protocol.dns import Resolver
from clawmail.smtpd.server import SmtpDoor
from clawmail.store.db import Database
from clawmail.webhook_worker import WebhookWorker
from clawmail.worker import OutboundWorker


@dataclass(slots=True)
class App:
    """Everything that runs in one process."""

    settings: Settings
    #: connections for requests, for filing mail, for the queue.
    databases: tuple[Database, Database, Database]
    clock: HouseClock
    resolver: Resolver
    setup_resolver: Resolver
    directory: Directory
    access: Access
    writer: Writer
    signers: Signers
    aside: Aside
    services: Services
    worker: OutboundWorker
    webhooks: WebhookWorker
    upkeep: Upkeep
    api: ApiServer
    door: SmtpDoor

    async def start(self) -> None:
        """Opens everything, the door last. Raises what the first part that fails raises; then nothing stays open."""
        try:
            for db in self.databases:
                await db.open()
            await self.clock.sync()
            self.directory.start()
            self.access.start()
            await self.worker.start()
            self.webhooks.start()
            self.upkeep.start()
            await self.api.start()
            await self.door.start()
        except BaseException:
            await self.stop(0)
            raise

    async def stop(self, grace_seconds: float) -> None:
        """Accepts nothing more, finishes what is in flight within ``grace_seconds``, closes the rest."""
        await self.door.stop(grace_seconds)
        await self.api.stop(grace_seconds)
        await self.upkeep.stop()
        await self.webhooks.stop(grace_seconds)
        await self.worker.stop(grace_seconds)
        await self.writer.close()
        await self.access.stop()
        self.signers.close()
        await self.aside.close()
        await self.services.webhooks.close()
        await self.services.limits.close()
        for resolver in (self.resolver, self.setup_resolver):
            if isinstance(resolver, DnsResolver):
                await resolver.close()
        for db in self.databases:
            await db.close()
