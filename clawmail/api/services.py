"""The use-cases that a handler may call, and nothing else: what the composition root hands to the HTTP entrance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clawmail.base.settings import Settings

if TYPE_CHECKING:  # names only: the composition root makes these
    from collections.abc import Awaitable, Callable

    from prometheus_client import CollectorRegistry

    from clawmail.core.access import Access
    from clawmail.core.aside import Aside
    from clawmail.core.domains import Domains
    from clawmail.core.downloads import Downloads
    from clawmail.core.idempotency import OnceOnly
    from clawmail.core.inboxes import Inboxes
    from clawmail.core.journal import Journal
    from clawmail.core.limits import Limits
    from clawmail.core.mailbox import Mailbox
    from clawmail.core.rules import Rules
    from clawmail.core.submit import Submitter
    from clawmail.core.webhooks.endpoints import Webhooks


@dataclass(frozen=True, slots=True)
class Services:
    """One attribute a use-case."""

    settings: Settings
    #: keys → principals.
    access: Access
    #: how often a caller may.
    limits: Limits
    #: register, verify, DNS, DKIM keys, removal.
    domains: Domains
    #: inboxes and the keys that open them.
    inboxes: Inboxes
    #: forwarding rules.
    rules: Rules
    #: repeated requests with an Idempotency-Key.
    once_only: OnceOnly
    #: emails and threads of an inbox.
    mailbox: Mailbox
    #: sources of emails and their attachments.
    downloads: Downloads
    #: events and suppressed addresses.
    journal: Journal
    #: endpoints that are told of events.
    webhooks: Webhooks
    #: send, reply, forward.
    submitter: Submitter
    #: reads large bodies.
    aside: Aside
    #: returns when the store answers, raises StoreUnwell when it does not.
    check_store: Callable[[], Awaitable[None]]
    #: what Prometheus is shown, its gauges up to date.
    measured: Callable[[], Awaitable[CollectorRegistry]]
