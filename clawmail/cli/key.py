"""``clawmail key``: the keys that open inboxes, for the operator. A key is shown once, when it is made."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import moment

if TYPE_CHECKING:
    from clawmail.model.accounts import InboxKey

COLUMNS = ("key_prefix", "email", "label", "created_at", "last_used_at", "revoked_at", "id")


@click.group()
def key() -> None:
    """Create, list and revoke inbox keys."""


@key.command()
@click.argument("address")
@click.option("--label", default="", help="A name for people.")
@config_option
@json_option
def create(address: str, label: str, config_path: Path | None, as_json: bool) -> None:
    """Make a key that opens the inbox ADDRESS, which is made too if it is missing."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.inbox import owner_of
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await owner_of(tools, address)
            before = {inbox.address for inbox in await tools.inboxes.all(owner)}
            made = await tools.inboxes.new_inbox_key(owner, address, label, datetime.now(UTC))
        if as_json:
            facts = {"id": str(made.id), "api_key": made.text, "key_prefix": made.prefix, "email": made.address}
            print_json({**facts, "label": made.label or None})
            return
        if made.address not in before:
            click.echo(f"The inbox {made.address} was not there; it is made.\n")
        click.echo(f"A key for {made.address}, shown only now:\n\n  {made.text}\n")
        click.echo(f"Send it along as:  Authorization: Bearer {made.address}:{made.text}")

    run(main)


@key.command("list")
@click.argument("domain", required=False)
@config_option
@json_option
def list_command(domain: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the inbox keys of DOMAIN, or of all domains, revoked ones too."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.inbox import owners
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            found = [row for owner in await owners(tools, domain) for row in await tools.inboxes.list_keys(owner)]
        rows = [_facts(row) for row in found]
        if as_json:
            print_json(rows)
        else:
            print_table(rows, COLUMNS, empty="There is no key yet: clawmail key create ADDRESS")

    run(main)


@key.command()
@click.argument("id_or_prefix")
@config_option
@json_option
def revoke(id_or_prefix: str, config_path: Path | None, as_json: bool) -> None:
    """Make the key with that id, or with that prefix of 11 characters, stop working at once."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.base.errors import NotFound
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            try:
                await tools.inboxes.revoke_for_operator(id_or_prefix, datetime.now(UTC))
            except NotFound:
                raise NotFound(
                    f"No live key has the id or prefix {id_or_prefix}; clawmail key list shows them"
                ) from None
        if as_json:
            print_json({"revoked": id_or_prefix})
        else:
            click.echo(f"{id_or_prefix} is revoked")

    run(main)


def _facts(row: InboxKey) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "key_prefix": row.key_prefix,
        "email": row.email,
        "label": row.label or None,
        "created_at": moment(row.created_at),
        "last_used_at": moment(row.last_used_at),
        "revoked_at": moment(row.revoked_at),
    }
