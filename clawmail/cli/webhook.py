"""``clawmail webhook``: where owners are told of events over HTTP, for the operator. A secret is shown once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import moment

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.cli.wiring import Tools
    from clawmail.core.webhooks.endpoints import Webhooks
    from clawmail.model.tenancy import Principal
    from clawmail.model.webhooks import Webhook

COLUMNS = ("id", "recipient", "url", "events", "active", "failures", "dropped", "created_at")


@click.group()
def webhook() -> None:
    """Add, list, try out and remove webhooks.

    A RECIPIENT is a domain, whose webhooks hear of all its inboxes, or one inbox.
    """


@webhook.command()
@click.argument("recipient")
@click.argument("url")
@click.option("--event", "events", multiple=True, help="Only events of this type; may be given again.")
@config_option
@json_option
def add(recipient: str, url: str, events: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
    """Have the events of RECIPIENT posted to URL; shows the secret of the signatures, once."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open(settings) as (tools, webhooks):
            owner = await tools.domains.owner(recipient.rpartition("@")[2])
            inbox = recipient if "@" in recipient else None
            made = await webhooks.add(owner, url, events, datetime.now(UTC), inbox=inbox)
        if as_json:
            print_json({**_facts(made.webhook, owner), "secret": made.secret})
        else:
            click.echo(f"{made.webhook.id} hears of {recipient}. Its secret, shown only now:\n\n  {made.secret}")

    run(main)


@webhook.command("list")
@click.argument("domain", required=False)
@config_option
@json_option
def list_command(domain: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the webhooks of DOMAIN and its inboxes, or of all domains."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.inbox import owners

        rows: list[dict[str, Any]] = []
        async with _open(settings) as (tools, webhooks):
            for owner in await owners(tools, domain):
                rows += [_facts(one, owner) for one in await webhooks.all(owner)]
        if as_json:
            print_json(rows)
        else:
            print_table(rows, COLUMNS, empty="There is no webhook yet: clawmail webhook add RECIPIENT URL")

    run(main)


@webhook.command()
@click.argument("domain")
@click.argument("webhook_id", metavar="ID", type=click.UUID)
@config_option
@json_option
def test(domain: str, webhook_id: UUID, config_path: Path | None, as_json: bool) -> None:
    """Post a test event to the webhook ID of DOMAIN now, and show what it answered."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open(settings) as (tools, webhooks):
            owner = await tools.domains.owner(domain)
            with _looked_for(webhook_id, domain):
                attempt = await webhooks.test(owner, webhook_id, datetime.now(UTC))
        if as_json:
            print_json({"ok": attempt.taken, "status": attempt.status, "error": attempt.problem or None})
        elif attempt.taken:
            click.echo(f"It answered {attempt.status} within {attempt.seconds:.2f} s")
        if not attempt.taken:
            raise click.ClickException(f"The webhook did not take it: {attempt.problem}")

    run(main)


@webhook.command()
@click.argument("domain")
@click.argument("webhook_id", metavar="ID", type=click.UUID)
@config_option
@json_option
def remove(domain: str, webhook_id: UUID, config_path: Path | None, as_json: bool) -> None:
    """Remove the webhook ID of DOMAIN: it is told nothing more."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open(settings) as (tools, webhooks):
            owner = await tools.domains.owner(domain)
            with _looked_for(webhook_id, domain):
                await webhooks.remove(owner, webhook_id, datetime.now(UTC))
        if as_json:
            print_json({"id": str(webhook_id), "removed": True})
        else:
            click.echo(f"{webhook_id} is removed")

    run(main)


@contextlib.asynccontextmanager
async def _open(settings: Settings) -> AsyncIterator[tuple[Tools, Webhooks]]:
    """The use-cases on the open store, and those of webhooks."""
    from clawmail.api.native.webhook_shapes import told
    from clawmail.cli.wiring import open_resolver, open_tools
    from clawmail.core.cursors import Cursors
    from clawmail.core.webhooks.endpoints import Webhooks
    from clawmail.core.webhooks.parts import make_poster

    async with open_tools(settings) as tools:
        resolver = open_resolver(settings)
        webhooks = Webhooks(
            tools.db,
            keyring=tools.keyring,
            poster=make_poster(settings.webhooks, resolver, tools.keyring, told),
            cursors=Cursors(tools.keyring.signing_key("cursor")),
            allow_http=settings.webhooks.allow_private,
        )
        try:
            yield tools, webhooks
        finally:
            await webhooks.close()
            await resolver.close()


@contextlib.contextmanager
def _looked_for(webhook_id: UUID, domain: str) -> Iterator[None]:
    """Says where to look when there is no such webhook."""
    from clawmail.base.errors import NotFound

    try:
        yield
    except NotFound:
        words = f"{domain} has no webhook {webhook_id}; clawmail webhook list {domain} shows those it has"
        raise click.ClickException(words) from None


def _facts(webhook: Webhook, owner: Principal) -> dict[str, Any]:
    return {
        "id": str(webhook.id),
        "recipient": webhook.inbox or owner.domain_name,
        "url": webhook.url,
        "events": ", ".join(webhook.event_types) or "all",
        "active": webhook.disabled_at is None,
        "disabled_reason": webhook.disabled_reason,
        "failures": webhook.failures,
        "dropped": webhook.dropped,
        "created_at": moment(webhook.created_at),
    }
