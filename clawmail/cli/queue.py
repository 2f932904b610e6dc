"""``clawmail queue``: the outbound queue, for the operator. A delivery that is being attempted cannot be moved."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli import queue_top
from clawmail.cli.options import config_option, json_option, load_settings, print_json, print_table, run
from clawmail.cli.values import counted, moment, size_text

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.core.outbound.operator import OutboundQueue

LIST_COLUMNS = ("id", "state", "recipient", "envelope_from", "attempts", "next_attempt_at", "last_reply")
TIMES = ("oldest", "next_attempt_at")
TOP_COLUMNS = ("site", "waiting", "due", "deferred", "leased", "held", "oldest", "next_attempt_at", "closed")


@click.group()
def queue() -> None:
    """Look at the outbound queue, and move what is in it."""


@contextlib.asynccontextmanager
async def _open_queue(settings: Settings) -> AsyncIterator[OutboundQueue]:
    from clawmail.cli.options import open_store
    from clawmail.core.outbound.operator import OutboundQueue

    async with open_store(settings) as db:
        yield OutboundQueue(db)


@queue.command("list")
@click.option("--domain", help="Only deliveries that this domain sends or receives.")
@click.option(
    "--state", "states", multiple=True, help="Only in this state; may be repeated. Without it: all open ones."
)
@click.option("--destination", metavar="DEST", help="Only to this domain, or to a site as `queue top` names it.")
@click.option("--after", metavar="ID", help="Go on behind this delivery.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@config_option
@json_option
def list_command(
    domain: str | None,
    states: tuple[str, ...],
    destination: str | None,
    after: str | None,
    limit: int,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """List deliveries, oldest first."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open_queue(settings) as queue:
            rows = await queue.page(domain=domain, states=states, destination=destination, after=after, limit=limit)
        if as_json:
            print_json(rows)
        else:
            empty = "there is no such delivery" if domain or states or destination or after else "nothing waits"
            print_table([_readable(row) for row in rows], LIST_COLUMNS, empty=empty)

    run(main)


@queue.command()
@click.argument("delivery_id", metavar="ID")
@config_option
@json_option
def show(delivery_id: str, config_path: Path | None, as_json: bool) -> None:
    """Show all that is known of one delivery, and what happened to it."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open_queue(settings) as queue:
            facts = await queue.show(delivery_id)
        if as_json:
            print_json(facts)
            return
        events = facts.pop("events")
        facts["size"] = size_text(facts["size"])
        width = max(map(len, facts))
        for name, value in facts.items():
            if value not in (None, "", {}):
                click.echo(f"{name.replace('_', ' '):{width}}  {value}")
        for event in events:
            detail = "  ".join(f"{name}={value}" for name, value in event["detail"].items() if value is not None)
            click.echo(f"{event['at']}  {event['type']}  {detail}")

    run(main)


def _mover(name: str, done: str, about: str) -> click.Command:
    """A command that moves the deliveries it is given."""

    @click.command(name, help=about)
    @click.argument("ids", metavar="ID...", nargs=-1, required=True)
    @config_option
    @json_option
    def move(ids: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
        settings = load_settings(config_path)

        async def main() -> None:
            async with _open_queue(settings) as queue:
                moves: dict[str, Callable[[Sequence[str]], Awaitable[int]]] = {
                    "retry": queue.retry,
                    "hold": queue.hold,
                    "release": queue.release,
                    "drop": queue.drop,
                }
                moved, named = await moves[name](ids), len(set(ids))
            if as_json:
                print_json({"moved": moved, "named": named})
            else:
                click.echo(f"{counted(moved, 'delivery', 'deliveries')} {done}")
            if moved < named:
                click.echo(f"{named - moved} could not be: clawmail queue show ID says where they stand", err=True)
                raise SystemExit(1)

        run(main)

    return move


for _name, _done, _about in (
    ("retry", "due now", "Make deliveries due now."),
    ("hold", "held", "Keep deliveries from being tried until they are released."),
    ("release", "released", "Let held deliveries go on."),
    ("drop", "dropped", "Take deliveries out of the queue. Their senders are not told."),
):
    queue.add_command(_mover(_name, _done, _about))


@queue.command()
@click.argument("destination", metavar="DEST")
@click.option("--reason", default="", help="Why, for whoever looks.")
@config_option
@json_option
def pause(destination: str, reason: str, config_path: Path | None, as_json: bool) -> None:
    """Stop mail to DEST, a domain or a site as `queue top` names it, until it is resumed."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open_queue(settings) as queue:
            facts = await queue.pause(destination, reason)
        if as_json:
            print_json(facts)
        else:
            name = facts["destination"]
            click.echo(f"{name} is paused; its mail waits. Let it go on with:  clawmail queue resume {name}")

    run(main)


@queue.command()
@click.argument("destination", metavar="DEST")
@config_option
@json_option
def resume(destination: str, config_path: Path | None, as_json: bool) -> None:
    """Let mail to DEST go on, whether it was paused or left alone because nobody answered."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open_queue(settings) as queue:
            facts = await queue.resume(destination)
        if as_json:
            print_json(facts)
        else:
            click.echo(f"{facts['destination']} goes on")

    run(main)


@queue.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--once", is_flag=True, help="Print the table once, also at a terminal.")
@config_option
@json_option
def top(limit: int, once: bool, config_path: Path | None, as_json: bool) -> None:
    """Show where mail waits, the most first; at a terminal live, until q or Ctrl-C."""
    settings = load_settings(config_path)

    async def main() -> None:
        async with _open_queue(settings) as queue:
            if not as_json and not once and sys.stdout.isatty():
                with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C
                    await queue_top.watch(lambda: queue.top(limit))
                return
            rows = await queue.top(limit)
        if as_json:
            print_json(rows)
        else:
            now = datetime.now(UTC)
            told = [_readable(row) | {"closed": queue_top.closed(row, now)} for row in rows]
            print_table(told, TOP_COLUMNS, empty="the queue is empty")

    run(main)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """Whole seconds, which is what a table has room for; JSON has all there is."""
    cut = {name: moment(datetime.fromisoformat(row[name])) for name in TIMES if row.get(name) is not None}
    return row | cut
