"""``clawmail domain``: the domains of this installation, for its operator."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import AS_SETTINGS, Age, ask_first, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clawmail.core.dns_setup import RecordCheck
    from clawmail.model.tenancy import Domain

RECORD_COLUMNS = ("type", "name", "value", "state", "found", "fix")


@click.group()
def domain() -> None:
    """Add, list, verify and remove domains; show their DNS records."""


@domain.command()
@click.argument("name")
@click.option("--trusted", is_flag=True, help="Verified by your word: no look at the DNS.")
@config_option
@json_option
def add(name: str, trusted: bool, config_path: Path | None, as_json: bool) -> None:
    """Register the domain NAME and print its token, which is not shown again.

    Without --trusted it is pending for 72 hours, until its DNS shows the records that `domain dns NAME` lists.
    """
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools
        from clawmail.core.dns_setup import VERIFICATION_LABEL

        async with open_tools(settings) as tools:
            now = datetime.now(UTC)
            made = await (tools.domains.add_trusted(name, now) if trusted else tools.domains.register(name, now))
            host = tools.domains.host
        facts = {
            **_facts(made.domain),
            "verification_token": made.token,
            "dns_txt_record": f"{VERIFICATION_LABEL}.{made.domain.name}",
            "dns_txt_value": made.domain.verification_value,
            "mx_record": host.name_for(made.domain.name),
        }
        if as_json:
            print_json(facts)
            return
        click.echo(f"{made.domain.name} is {made.domain.state}. Its token, shown only now:\n\n  {made.token}\n")
        click.echo(f"Publish its records:  clawmail domain dns {made.domain.name}")
        if not trusted:
            click.echo(f"Then:                 clawmail domain verify {made.domain.name}")

    run(main)


@domain.command("list")
@config_option
@json_option
def list_command(config_path: Path | None, as_json: bool) -> None:
    """List all domains."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            rows = [_facts(found) for found in await tools.domains.all(datetime.now(UTC))]
        if as_json:
            print_json(rows)
        else:
            columns = ("domain", "state", "trusted", "created_at", "verified_at", "pending_until")
            print_table(rows, columns, empty="There is no domain yet: clawmail domain add NAME")

    run(main)


@domain.command()
@click.argument("name")
@config_option
@json_option
def verify(name: str, config_path: Path | None, as_json: bool) -> None:
    """Look at the DNS of NAME and verify it if TXT, MX and A are right; else say what is wrong and exit with 1."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.base.errors import Invalid
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            now = datetime.now(UTC)
            owner = await tools.domains.owner(name)
            problem = None
            try:
                await tools.domains.verify_for_operator(name, now)
            except Invalid as failed:
                problem = failed.message
            records = await tools.domains.records(owner, owner.domain_name, now)
        if as_json:
            shown = [_record(record) for record in records]
            print_json({"domain": owner.domain_name, "verified": not problem, "problem": problem, "records": shown})
        else:
            click.echo(f"{owner.domain_name}: {problem or 'verified'}")
            _print_records(records)
        if problem:
            raise SystemExit(1)

    run(main)


@domain.command()
@click.argument("name")
@config_option
@json_option
def dns(name: str, config_path: Path | None, as_json: bool) -> None:
    """Show the records to publish for NAME, each with what the DNS says now and what to do about it."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await tools.domains.owner(name)
            records = await tools.domains.records(owner, owner.domain_name, datetime.now(UTC))
        if as_json:
            print_json({"domain": owner.domain_name, "records": [_record(record) for record in records]})
        else:
            _print_records(records)

    run(main)


@domain.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def remove(name: str, yes: bool, config_path: Path | None, as_json: bool) -> None:
    """Remove NAME with its inboxes, keys, rules and mail."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await tools.domains.owner(name)
            ask_first(f"Remove {owner.domain_name} with all its inboxes, keys and mail?", yes=yes)
            await tools.domains.remove(owner, owner.domain_name, datetime.now(UTC))
        if as_json:
            print_json({"domain": owner.domain_name, "removed": True})
        else:
            click.echo(f"{owner.domain_name} is removed; its mail is deleted in the background")

    run(main)


@domain.command()
@click.argument("name")
@config_option
@json_option
def token(name: str, config_path: Path | None, as_json: bool) -> None:
    """Make one more token for NAME, whose owner has lost his. The old ones keep working."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools

        async with open_tools(settings) as tools:
            owner = await tools.domains.owner(name)
            made = await tools.domains.another_token(owner.domain_name, datetime.now(UTC))
        if as_json:
            print_json({"domain": owner.domain_name, "verification_token": made})
        else:
            click.echo(made)

    run(main)


@domain.command()
@click.argument("name")
@click.option("--mail-days", type=Age(), help="Days until mail is removed; 0: never; default: as the settings say.")
@click.option("--attachment-hours", type=Age(), help="Hours until attachments answer 410, in the same way.")
@click.option("--event-days", type=Age(), help="Days until events are removed, in the same way.")
@config_option
@json_option
def retention(name: str, config_path: Path | None, as_json: bool, **given: float | None) -> None:
    """Show how long NAME keeps mail, attachments and events, or set it for NAME alone."""
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.wiring import open_tools
        from clawmail.core.retention import Retention
        from clawmail.model.tenancy import OwnRetention

        common = settings.retention
        async with open_tools(settings) as tools:
            owner = await tools.domains.owner(name)
            keeper = Retention(tools.db, mail_days=common.mail_days, event_days=common.event_days)
            own = (await keeper.own(owner.domain_id))._asdict()
            if any(age is not None for age in given.values()):
                own |= {what: None if age == AS_SETTINGS else age for what, age in given.items() if age is not None}
                await keeper.set_own(owner.domain_id, OwnRetention(**own))
        usual = (common.mail_days, common.attachment_ttl_hours, common.event_days)
        rows = [
            {"what": what, "kept": own[what] if own[what] is not None else default, "own": own[what] is not None}
            for what, default in zip(OwnRetention._fields, usual, strict=True)
        ]
        if as_json:
            print_json({"domain": owner.domain_name, **{str(row["what"]): row["kept"] for row in rows}, "own": own})
        else:
            print_table(rows, ("what", "kept", "own"), empty="")

    run(main)


def _facts(found: Domain) -> dict[str, Any]:
    return {
        "id": str(found.id),
        "domain": found.name,
        "state": found.state,
        "verified": found.verified,
        "trusted": found.trusted,
        "created_at": moment(found.created_at),
        "verified_at": moment(found.verified_at),
        "pending_until": moment(found.pending_until),
    }


def _record(record: RecordCheck) -> dict[str, Any]:
    return {
        "type": record.type,
        "name": record.name,
        "value": record.value,
        "priority": record.priority,
        "state": record.state,
        "found": list(record.found),
        "fix": record.fix,
    }


def _print_records(records: Sequence[RecordCheck]) -> None:
    """One block a record: a value of 400 characters has to be copied whole, and no table keeps it so."""
    for record in records:
        colour = "green" if record.state == "ok" else "yellow"
        priority = "" if record.priority is None else f"{record.priority} "
        click.echo(f"\n{click.style(f'{record.state:8}', fg=colour)} {record.type:5} {record.name}")
        click.echo(f"  value  {priority}{record.value}")
        if record.state == "wrong":
            click.echo("".join(f"  found  {value}\n" for value in record.found), nl=False)
        if record.problem:
            click.echo(f"  note   it could not be looked up: {record.problem}")
        elif record.fix:
            click.echo(f"  do     {record.fix.partition(': ')[0]}")
