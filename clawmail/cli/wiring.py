"""What commands work with: the use-cases of accounts on an open store, without a listener or a worker.

A command is a process of its own beside the daemon. It remembers nothing, so it has nothing to forget; the daemon hears
of what a command changed by the NOTIFY in the changing transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import click

from clawmail.base.secrets import Keyring, load_keyring
from clawmail.base.settings import Settings
from clawmail.cli.options import open_store
from clawmail.core.access import Access
from clawmail.core.dkim_keys import DkimKeys
from clawmail.core.domains import Domains
from clawmail.core.inboxes import Inboxes
from clawmail.net.resolver import DnsResolver
from clawmail.store.db import Database


@dataclass(frozen=True, slots=True)
class Tools:
    """The use-cases that commands call."""

    settings: Settings
    db: Database
    keyring: Keyring
    domains: Domains
    inboxes: Inboxes


@contextlib.asynccontextmanager
async def open_tools(settings: Settings) -> AsyncIterator[Tools]:
    """The use-cases on the open store, for the time of the block. Raises ClickException when it cannot be opened."""
    async with open_store(settings) as db:
        keyring = await asyncio.to_thread(open_keyring, settings)
        resolver = open_resolver(settings)
        access = Access(db)
        dkim_keys = DkimKeys(db, keyring=keyring, resolver=resolver, changed=_nothing_remembered)
        try:
            yield Tools(
                settings,
                db,
                keyring,
                Domains(
                    db,
                    access=access,
                    dkim_keys=dkim_keys,
                    changed=_nothing_remembered,
                    resolver=resolver,
                    settings=settings,
                ),
                Inboxes(db, access=access, changed=_nothing_remembered, settings=settings.inbox),
            )
        finally:
            await resolver.close()
            await access.stop()


def open_resolver(settings: Settings) -> DnsResolver:
    """A resolver that remembers nothing: people change their DNS and ask again at once. Raises ClickException."""
    try:
        return DnsResolver(settings.dns.nameservers, timeout_seconds=settings.dns.timeout_seconds, max_entries=1)
    except ValueError as error:
        raise click.ClickException(f"dns.nameservers: {error}") from None


def open_keyring(settings: Settings) -> Keyring:
    """The server's keyring; made if this is the first thing that ever runs here. Raises ClickException."""
    data_dir = Path(settings.server.data_dir)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        return load_keyring(settings.server.secret_key, data_dir)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise click.ClickException(f"the secret key cannot be read: {error}. Run this as the server's user") from None


def _nothing_remembered(_domain: str) -> None:
    """A command keeps nothing in memory that a change could make wrong."""
