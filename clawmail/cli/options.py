"""What commands share: the configuration option, the open store, and two ways to print."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.config import ConfigError, load

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.store.db import Database

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file. Without it: $CLAWMAIL_CONFIG, else /etc/clawmail/config.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def load_settings(path: Path | None) -> Settings:
    """The settings; a wrong configuration ends the command with every problem in words."""
    try:
        return load(path)
    except ConfigError as error:
        raise click.ClickException("the configuration is wrong:\n  " + "\n  ".join(error.problems)) from None


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs an asynchronous command; our own errors end it with their text, without a traceback."""
    from clawmail.base import log
    from clawmail.base.errors import ClawmailError
    from clawmail.store.embedded import EmbeddedError
    from clawmail.store.migrate import MigrationError

    log.configure("warning")  # what a command does is told by its output; only trouble is logged, to standard error
    try:
        asyncio.run(main())
    except ClawmailError as error:
        raise click.ClickException(error.message) from None
    except (EmbeddedError, MigrationError) as error:
        raise click.ClickException(str(error)) from None
    except PermissionError as error:
        raise click.ClickException(f"{error}. Run this as root, or as the server's user") from None


@contextlib.asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[Database]:
    """The database, migrated and open: ``database.url``, else the embedded server (the running one, if there is)."""
    from clawmail.store.db import Database
    from clawmail.store.embedded import EmbeddedPostgres
    from clawmail.store.migrate import migrate

    embedded = None if settings.database.url else EmbeddedPostgres(Path(settings.server.data_dir))
    if embedded is not None:
        await embedded.start()
    try:
        url = settings.database.url or (embedded.url if embedded else "")
        try:
            await migrate(url)
        except OSError as error:
            where = "at database.url" if embedded is None else f"in {embedded.directory}"
            raise click.ClickException(f"no PostgreSQL answers {where}: {error}") from None
        db = Database(url, pool_size=2, timeout_seconds=settings.database.timeout_seconds)
        await db.open()
        try:
            yield db
        finally:
            await db.close()
    finally:
        if embedded is not None:
            await embedded.stop()


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2 if sys.stdout.isatty() else None, default=str)
    sys.stdout.write("\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """A table for people: as wide as its content, cut nowhere; ``empty`` says what to do when there is nothing."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console(width=None if sys.stdout.isatty() else 4096, highlight=False, markup=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
