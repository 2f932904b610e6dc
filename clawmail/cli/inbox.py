"""``clawmail inbox``: the inboxes of this installation, for its operator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import Size, ask_first, moment, size_text

if TYPE_CHECKING:
    from clawmail.cli.wiring import Tools
    from clawmail.model.accounts import InboxOverview
    from clawmail.model.tenancy import Principal

COLUMNS = ("address", "used", "quota", "unread_count", "is_catch_all", "created_at")


@click.group()
def inbox() -> None:
    """Add, list and remove inboxes; set their quota."""


@inbox.command()
@click.argument("address")
@click.option("--quota", type=Size(), help="How much it may hold, like 500MiB. Without it: inbox.storage_quota_bytes.")
@config_option
@json_option
def add(address: str, quota: int | None, config_path: Path | None, as_json: bool) -> None:
    """Add the inbox ADDRESS. `key create ADDRESS` makes a key that opens it."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await owner_of(tools, address)
            await tools.inboxes.add(owner, address, datetime.now(UTC), quota_bytes=quota)
            made = await _overview(tools, owner, address)
        if as_json:
            print_json(_facts(made))
        else:
            click.echo(f"{made.address} can hold {size_text(made.storage_quota_bytes)}")
            click.echo(f"A key for it:  clawmail key create {made.address}")

    run(main)


@inbox.command("list")
@click.argument("domain", required=False)
@config_option
@json_option
def list_command(domain: str | None, config_path: Path | None, as_json: bool) -> None:
    """List the inboxes of DOMAIN, or of all domains."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            found = [row for owner in await owners(tools, domain) for row in await tools.inboxes.all(owner)]
        rows = [_facts(row) for row in found]
        if as_json:
            print_json(rows)
            return
        for row in rows:
            row["used"], row["quota"] = size_text(row["storage_used_bytes"]), size_text(row["storage_quota_bytes"])
        print_table(rows, COLUMNS, empty="There is no inbox yet: clawmail inbox add ADDRESS")

    run(main)


@inbox.command()
@click.argument("address")
@click.argument("size", type=Size())
@config_option
@json_option
def quota(address: str, size: int, config_path: Path | None, as_json: bool) -> None:
    """Let the inbox ADDRESS hold SIZE, for example 500MiB. What it holds already stays."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await owner_of(tools, address)
            known = await _overview(tools, owner, address)
            await tools.inboxes.set_quota(owner, known.address, size)
            changed = await _overview(tools, owner, address)
        if as_json:
            print_json(_facts(changed))
        else:
            used, most = size_text(changed.storage_used_bytes), size_text(changed.storage_quota_bytes)
            click.echo(f"{changed.address} can hold {most} and holds {used}")

    run(main)


@inbox.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def remove(address: str, yes: bool, config_path: Path | None, as_json: bool) -> None:
    """Remove the inbox ADDRESS with its keys and mail."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await owner_of(tools, address)
            going = await _overview(tools, owner, address)
            ask_first(f"Remove {going.address} with its keys and all its mail?", yes=yes)
            await tools.inboxes.remove(owner, going.address, datetime.now(UTC))
        if as_json:
            print_json({"address": going.address, "removed": True})
        else:
            click.echo(f"{going.address} is removed; its mail is deleted in the background")

    run(main)


async def owners(tools: Tools, domain: str | None) -> list[Principal]:
    """The operator in the place of one domain's owner, or of every domain's. Raises NotFound."""
    if domain is not None:
        return [await tools.domains.owner(domain)]
    return [await tools.domains.owner(found.name) for found in await tools.domains.all(datetime.now(UTC))]


async def owner_of(tools: Tools, address: str) -> Principal:
    """The operator in the place of the owner of an address's domain. Raises NotFound, or Invalid for no address."""
    from clawmail.base.errors import Invalid

    _, at, domain = address.rpartition("@")
    if not at:
        raise Invalid(f"{address} is not an address; write it as name@domain")
    return await tools.domains.owner(domain)


async def _overview(tools: Tools, owner: Principal, address: str) -> InboxOverview:
    from clawmail.base.errors import NotFound
    from clawmail.protocol.address import folded, parse_address

    wanted = folded(str(parse_address(address) or address))
    for found in await tools.inboxes.all(owner):
        if folded(found.address) == wanted:
            return found
    raise NotFound(f"There is no inbox {address}; clawmail inbox list {owner.domain_name} shows those there are")


def _facts(row: InboxOverview) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "address": row.address,
        "local_part": row.local_part,
        "storage_used_bytes": row.storage_used_bytes,
        "storage_quota_bytes": row.storage_quota_bytes,
        "is_catch_all": row.is_catch_all,
        "unread_count": row.unread_count,
        "created_at": moment(row.created_at),
    }
