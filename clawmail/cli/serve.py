"""``clawmail serve``, ``dev`` and ``migrate``: the server as a process."""

from __future__ import annotations

from pathlib import Path

import click

from clawmail.cli.options import config_option, load_settings
from clawmail.config import load


@click.command()
@config_option
@click.option("--worker", is_flag=True, hidden=True, help="One of several processes of a server.")
def serve(config_path: Path | None, worker: bool) -> None:
    """Run the server until SIGTERM or Ctrl-C. SIGHUP reloads certificates and the log level."""
    from clawmail.cli import process

    process.run(load_settings(config_path), config_path, read_again=lambda: load(config_path), worker=worker)


@click.command()
@click.option("--data-dir", default="./var", show_default=True, help="Where the database and the keys are kept.")
def dev(data_dir: str) -> None:
    """Run a server to try things out: SMTP on 127.0.0.1:2525, API on 127.0.0.1:3000.

    It has one trusted domain with one inbox, and prints curl and swaks lines that work as they stand.
    """
    from clawmail.cli import process, tryout

    settings = tryout.settings(data_dir)
    process.run(settings, None, read_again=lambda: settings, on_ready=tryout.introduce)


@click.command()
@config_option
def migrate(config_path: Path | None) -> None:
    """Bring the database to this version's schema. ``serve`` does the same when it starts."""
    from clawmail.cli.options import open_store, run

    settings = load_settings(config_path)

    async def main() -> None:
        async with open_store(settings):
            click.echo("ok: the database has this version's schema")

    run(main)
