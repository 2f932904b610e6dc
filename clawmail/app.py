"""The composition root: the one place where Clawmail is wired together.

``build`` reads top to bottom: the store and the outside world, then the use-cases, then the entrances. ``App.start``
(``running``) opens them in that order. Tests build the same app and hand in a resolver of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from clawmail.api.native.routes import ROUTES
from clawmail.api.native.webhook_shapes import told
from clawmail.api.server import ApiServer
from clawmail.api.services import Services
from clawmail.base.secrets import Keyring, load_keyring
from clawmail.base.settings import Settings
from clawmail.core.access import Access
from clawmail.core.aside import Aside
from clawmail.core.clock import SYNC_SECONDS, HouseClock
from clawmail.core.cursors import Cursors
from clawmail.core.directory import Directory
from clawmail.core.dkim_keys import DkimKeys
from clawmail.core.domains import Domains
from clawmail.core.downloads import Downloads
from clawmail.core.forwards import Forwarder
from clawmail.core.health import Health
from clawmail.core.house_limits import HouseCounts, HouseLimiter
from clawmail.core.idempotency import OnceOnly
from clawmail.core.inboxes import Inboxes
from clawmail.core.journal import Journal
from clawmail.core.limits import Limits
from clawmail.core.mailbox import Mailbox
from clawmail.core.our_names import OurNames
from clawmail.core.outbound.feedback import Feedback
from clawmail.core.outbound.local import LocalCarrier
from clawmail.core.outbound.measure import QueueMeter
from clawmail.core.outbound.metrics import OutboundMetrics, process_registry
from clawmail.core.outbound.parts import make_outbound
from clawmail.core.outbound.proof import Proofs
from clawmail.core.outbound.queue import Outbound
from clawmail.core.rates import Rates
from clawmail.core.receipts import Receipts
from clawmail.core.receive import Receiver
from clawmail.core.retention import Retention
from clawmail.core.rules import Rules
from clawmail.core.signing import Signers
from clawmail.core.sources import Sources
from clawmail.core.strangers import Strangers
from clawmail.core.submit import Submitter
from clawmail.core.upkeep import Chore, Upkeep
from clawmail.core.webhooks.endpoints import Webhooks
from clawmail.core.webhooks.metrics import WebhookMetrics
from clawmail.core.webhooks.parts import make_poster, make_queue
from clawmail.core.webhooks.post import Poster
from clawmail.core.webhooks.queue import WebhookQueue
from clawmail.core.webhooks.upkeep import WebhookUpkeep
from clawmail.core.writer import Writer
from clawmail.net.resolver import DnsResolver
from clawmail.protocol.dns import Resolver
from clawmail.running import App
from clawmail.smtpd.server import SmtpDoor
from clawmail.store.db import Database
from clawmail.store.filing import STATEMENT as FILING
from clawmail.webhook_worker import WebhookWorker
from clawmail.worker import OutboundWorker

#: of a process's connections, those on which mail is filed, one for each lane of the writer, and those of the queue.
FILING_CONNECTIONS = 2
QUEUE_CONNECTIONS = 3
#: seconds between two rounds of the chores.
LOOK_FOR_KEYS_SECONDS = 60.0
FORGET_SECONDS = 3600.0


def build(settings: Settings, database_url: str, *, resolver: Resolver | None = None) -> App:
    """Wires an app on the database at ``database_url``; opens nothing yet. Raises ValueError for a bad secret key."""
    keyring = load_keyring(settings.server.secret_key, Path(settings.server.data_dir))
    db, filing_db, queue_db = databases = _databases(settings, database_url)
    clock = HouseClock(db)
    resolver = resolver or _dns_resolver(settings, cache_entries=settings.dns.cache_entries)
    # People change their DNS and ask again at once: set-up checks remember nothing.
    fresh = _dns_resolver(settings, cache_entries=0)
    directory = _directory(settings, db)
    signers = Signers(directory, keyring, with_ed25519=settings.outbound.ed25519)
    access, aside = Access(db), Aside()
    writer = Writer(filing_db, on_deliveries=lambda: worker.wake(), gathers=settings.server.workers > 1)
    our_names = OurNames(directory, hostname=settings.hostname, mx_label=settings.server.mx_label)
    receiver = _receiver(settings, db, directory, resolver, writer, signers, our_names, aside, keyring)
    submitter = Submitter(
        *(db, directory, writer, signers, aside),
        max_message_bytes=settings.smtp.max_message_bytes,
        max_recipients=settings.smtp.max_recipients,
        return_path=Proofs(keyring).return_path if settings.outbound.return_path == "delivery" else None,
    )
    metrics = OutboundMetrics(process_registry())
    worker = _outbound_worker(settings, queue_db, resolver, directory, receiver, keyring, clock, metrics)
    poster = make_poster(settings.webhooks, resolver, keyring, told)
    services, chores = _services(
        settings, db, clock, directory, access, submitter, aside, our_names, keyring, fresh, metrics, poster
    )
    webhook_metrics = WebhookMetrics(metrics.registry)
    webhook_upkeep = WebhookUpkeep(db, kept_days=settings.retention.webhook_days, metrics=webhook_metrics)
    chores += webhook_upkeep.chores(clock, every_seconds=FORGET_SECONDS)
    strangers = Strangers(settings.smtp, settings.hostname, db, resolver)
    door = SmtpDoor(
        settings,
        receiver,
        rates=Rates(db),
        strangers=strangers,
        authenticate=access.inbox,
        submit=submitter.submit_raw,
        count_send=services.limits.count_send,
        probe=services.check_store,
    )
    return App(
        settings=settings,
        databases=databases,
        clock=clock,
        resolver=resolver,
        setup_resolver=fresh,
        directory=directory,
        access=access,
        writer=writer,
        signers=signers,
        aside=aside,
        services=services,
        worker=worker,
        webhooks=_webhook_worker(settings, queue_db, poster, webhook_metrics, clock),
        upkeep=Upkeep([*chores, Chore("forget strangers", FORGET_SECONDS, strangers.sweep)]),
        api=ApiServer(settings, services, ROUTES),
        door=door,
    )


def _databases(settings: Settings, url: str) -> tuple[Database, Database, Database]:
    """Connections for requests, for filing mail, for the queue: a crowd at one of them leaves the others theirs."""
    most, seconds = settings.database.pool_size, settings.database.timeout_seconds
    shares = (max(1, most - FILING_CONNECTIONS - QUEUE_CONNECTIONS), FILING_CONNECTIONS, QUEUE_CONNECTIONS)
    requests, filing, queue = (
        Database(url, pool_size=share, timeout_seconds=seconds, keeps_open=True, plans_once=plans_once, learns=learns)
        for share, plans_once, learns in zip(shares, (False, True, True), ((), (FILING,), ()), strict=True)
    )
    return requests, filing, queue


def _directory(settings: Settings, db: Database) -> Directory:
    return Directory(
        db,
        catch_all_local_part=settings.inbox.catch_all_local_part,
        quota_bytes=settings.inbox.storage_quota_bytes,
        catches_all=settings.smtp.unknown_local_part == "catch-all",
    )


def _dns_resolver(settings: Settings, *, cache_entries: int) -> DnsResolver:
    return DnsResolver(
        settings.dns.nameservers, timeout_seconds=settings.dns.timeout_seconds, max_entries=cache_entries
    )


def _receiver(
    settings: Settings,
    db: Database,
    directory: Directory,
    resolver: Resolver,
    writer: Writer,
    signers: Signers,
    our_names: OurNames,
    aside: Aside,
    keyring: Keyring,
) -> Receiver:
    """What takes mail from the world, and sends on what rules ask for."""
    forwarder = Forwarder(
        directory,
        signers,
        our_names,
        hostname=settings.hostname.lower(),
        srs_key=keyring.signing_key("return path"),
        rewrite_from=settings.forwarding.rewrite_from,
        aside=aside,
    )
    receipts = Receipts(writer, signers, hostname=settings.hostname)
    return Receiver(settings, db, directory, resolver, writer, forwarder, Feedback(db, keyring), receipts, aside)


def _webhook_worker(
    settings: Settings, db: Database, poster: Poster, metrics: WebhookMetrics, clock: HouseClock
) -> WebhookWorker:
    def make(on_result: Callable[[], None]) -> WebhookQueue:
        return make_queue(db, poster, settings.webhooks, metrics=metrics, clock=clock, on_result=on_result)

    return WebhookWorker(make, poll_seconds=settings.webhooks.poll_seconds, listen=db.listen, clock=clock)


def _outbound_worker(
    settings: Settings,
    db: Database,
    resolver: Resolver,
    directory: Directory,
    receiver: Receiver,
    keyring: Keyring,
    clock: HouseClock,
    metrics: OutboundMetrics,
) -> OutboundWorker:
    async def is_ours(name: str) -> bool:
        domain = await directory.domain(name)
        return domain is not None and domain.verified

    local = LocalCarrier(
        db, receiver, is_ours, hostname=settings.hostname, address=ip_address(settings.server.public_ip), clock=clock
    )

    def make(on_room: Callable[[], None], on_notice: Callable[[], None]) -> Outbound:
        return make_outbound(
            db,
            resolver,
            settings,
            metrics=metrics,
            is_ours=is_ours,
            on_room=on_room,
            on_notice=on_notice,
            local=local,
            keyring=keyring,
            clock=clock,
        )

    return OutboundWorker(
        make,
        poll_seconds=settings.outbound.poll_seconds,
        lease_seconds=settings.outbound.lease_seconds,
        listen=lambda heard, lost: db.listen("deliveries", heard, lost),
    )


def _services(
    settings: Settings,
    db: Database,
    clock: HouseClock,
    directory: Directory,
    access: Access,
    submitter: Submitter,
    aside: Aside,
    our_names: OurNames,
    keyring: Keyring,
    fresh: Resolver,
    metrics: OutboundMetrics,
    poster: Poster,
) -> tuple[Services, list[Chore]]:
    """What the API's handlers may call, and the chores of the same use-cases."""
    changed = directory.forget
    dkim_keys = DkimKeys(db, keyring=keyring, resolver=fresh, changed=changed)
    domains = Domains(db, access=access, dkim_keys=dkim_keys, changed=changed, resolver=fresh, settings=settings)
    once_only = OnceOnly(db)
    sources, cursors = Sources(db, our_names), Cursors(keyring.signing_key("cursor"))
    inboxes = Inboxes(db, access=access, changed=changed, settings=settings.inbox)
    house_limiter = HouseLimiter(HouseCounts(db))
    keeper = Retention(db, mail_days=settings.retention.mail_days, event_days=settings.retention.event_days)
    services = Services(
        settings=settings,
        access=access,
        limits=Limits(settings.limits, house_limiter),
        domains=domains,
        inboxes=inboxes,
        rules=Rules(db, changed=changed),
        once_only=once_only,
        mailbox=Mailbox(db, sources, cursors),
        downloads=Downloads(db, sources, attachment_ttl_hours=settings.retention.attachment_ttl_hours),
        journal=Journal(db, cursors),
        webhooks=Webhooks(
            db, keyring=keyring, poster=poster, cursors=cursors, allow_http=settings.webhooks.allow_private
        ),
        submitter=submitter,
        aside=aside,
        check_store=Health(db).check,
        measured=QueueMeter(db, metrics, clock=clock).measured,
    )
    chores = [
        Chore("set the clock", SYNC_SECONDS, clock.sync),
        Chore("promote DKIM keys", LOOK_FOR_KEYS_SECONDS, lambda: dkim_keys.promote_waiting_keys(clock())),
        Chore("forget registrations", FORGET_SECONDS, lambda: domains.forget_expired(clock())),
        Chore("forget answers", FORGET_SECONDS, lambda: once_only.forget_old(clock())),
        Chore("forget counts", FORGET_SECONDS, house_limiter.forget),
        Chore("forget creation keys", FORGET_SECONDS, lambda: inboxes.forget_creation_keys(clock())),
        *keeper.chores(clock, every_seconds=FORGET_SECONDS),
    ]
    return services, chores
