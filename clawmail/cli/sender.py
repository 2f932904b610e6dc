"""``clawmail sender``: senders that a domain or an inbox always, or never, hears."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import moment

if TYPE_CHECKING:
    from clawmail.model.senders import SenderRule, Verdict
    from clawmail.model.tenancy import Principal

COLUMNS = ("id", "recipient", "verdict", "sender", "created_at")


@click.group()
def sender() -> None:
    """Allow and block senders, for a domain or for one inbox.

    A SENDER is user@host, host, .host (and whatever lies below it), or a network like 192.0.2.0/24. A RECIPIENT is a
    domain or an inbox; the inbox's own rules count before its domain's.
    """


@sender.command()
@click.argument("recipient")
@click.argument("sender")
@config_option
@json_option
def allow(recipient: str, sender: str, config_path: Path | None, as_json: bool) -> None:
    """Take mail of SENDER for RECIPIENT past block lists, checks of names and greylisting."""
    _say("allow", recipient, sender, config_path, as_json)


@sender.command()
@click.argument("recipient")
@click.argument("sender")
@config_option
@json_option
def block(recipient: str, sender: str, config_path: Path | None, as_json: bool) -> None:
    """Refuse mail of SENDER for RECIPIENT (550 5.7.1)."""
    _say("block", recipient, sender, config_path, as_json)


def _say(verdict: Verdict, recipient: str, sender: str, config_path: Path | None, as_json: bool) -> None:
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools
        from clawmail.core.sender_rules import SenderRules

        async with open_tools(settings) as tools:
            owner = await tools.domains.owner(recipient.rpartition("@")[2])
            inbox = recipient if "@" in recipient else None
            said = await SenderRules(tools.db).say(owner, verdict, sender, datetime.now(UTC), inbox=inbox)
        if as_json:
            print_json(_facts(said, recipient))
        else:
            click.echo(f"Mail of {said.sender} for {recipient}: {said.verdict}")

    run(main)


@sender.command("list")
@click.argument("domain", required=False)
@config_option
@json_option
def list_command(domain: str | None, config_path: Path | None, as_json: bool) -> None:
    """List what DOMAIN and its inboxes, or all domains, say about senders."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.inbox import owners
        from clawmail.cli.wiring import open_tools
        from clawmail.core.sender_rules import SenderRules

        rows: list[dict[str, Any]] = []
        async with open_tools(settings) as tools:
            for owner in await owners(tools, domain):
                addresses = {found.id: found.address for found in await tools.inboxes.all(owner)}
                for rule in await SenderRules(tools.db).all(owner):
                    rows.append(_facts(rule, _recipient(rule, owner, addresses)))
        if as_json:
            print_json(rows)
        else:
            print_table(
                rows, COLUMNS, empty="Nobody is allowed or blocked by a rule: clawmail sender block RECIPIENT SENDER"
            )

    run(main)


@sender.command()
@click.argument("domain")
@click.argument("rule", type=click.UUID)
@config_option
@json_option
def remove(domain: str, rule: UUID, config_path: Path | None, as_json: bool) -> None:
    """Take back the RULE of DOMAIN with that id."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools
        from clawmail.core.sender_rules import SenderRules

        async with open_tools(settings) as tools:
            await SenderRules(tools.db).take_back(await tools.domains.owner(domain), rule)
        if as_json:
            print_json({"id": str(rule), "removed": True})
        else:
            click.echo(f"{rule} is taken back")

    run(main)


def _recipient(rule: SenderRule, owner: Principal, addresses: dict[UUID, str]) -> str:
    return owner.domain_name if rule.inbox_id is None else addresses.get(rule.inbox_id, "an inbox that is removed")


def _facts(rule: SenderRule, recipient: str) -> dict[str, Any]:
    return {
        "id": str(rule.id),
        "recipient": recipient,
        "verdict": rule.verdict,
        "sender": rule.sender,
        "created_at": moment(rule.created_at),
    }
