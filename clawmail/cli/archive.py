"""``clawmail export`` and ``clawmail import``: an inbox as an mbox, a Maildir or JSON lines, out and back in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, run
from clawmail.cli.values import counted, size_text

if TYPE_CHECKING:
    from clawmail.core.archive.files import Form
    from clawmail.core.archive.transfer import Imported

Command = TypeVar("Command", bound=Callable[..., Any])
#: the forms of an archive, as ``core.archive.files`` has them.
FORMS = ("mbox", "maildir", "jsonl")


def _common(command: Command) -> Command:
    for option in (
        json_option,
        config_option,
        click.argument("path", type=click.Path(path_type=Path)),
        click.option("--format", "form", type=click.Choice(FORMS), help="Form of the archive, if PATH does not tell."),
        click.option("--inbox", "address", metavar="ADDRESS", required=True, help="The inbox."),
    ):
        command = option(command)
    return command


@click.command("export")
@_common
def export_command(address: str, form: Form | None, path: Path, config_path: Path | None, as_json: bool) -> None:
    """Write all mail of an inbox to PATH, which must be new; - is standard output.

    Messages are written byte for byte, with their dates and whether they are read and archived.
    """
    form = _form_of(path, form)
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.options import open_store
        from clawmail.cli.progress import progress_bar
        from clawmail.core.archive.files import writing
        from clawmail.core.archive.transfer import Archive

        with progress_bar("exporting") as tell:
            async with open_store(settings) as db:
                archive = Archive(db, told=lambda done: tell("", done, emails))
                inbox, emails = await archive.inbox(address)
                with writing(form, path) as add:
                    written = await archive.take_out(inbox, add)
        if as_json:
            facts = {"inbox": inbox.address, "format": form, "path": str(path), "exported": written}
            click.echo(_one_line(facts), err=str(path) == "-")
        else:
            click.echo(f"written: {counted(written, 'email')} of {inbox.address}", err=str(path) == "-")

    run(main)


@click.command("import")
@_common
def import_command(address: str, form: Form | None, path: Path, config_path: Path | None, as_json: bool) -> None:
    """File the mail of an archive at PATH into an inbox; - is standard input.

    What the inbox holds already is skipped, so that an import that was cut off is finished by running it again.
    """
    form = _form_of(path, form)
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.options import open_store
        from clawmail.cli.progress import progress_bar
        from clawmail.core.archive.files import reading
        from clawmail.core.archive.transfer import Archive

        with progress_bar("importing") as tell:
            async with open_store(settings) as db:
                archive = Archive(db, told=lambda done: tell("", done, 0))
                inbox, _ = await archive.inbox(address)
                result = await archive.bring_in(inbox, reading(form, path))
        if as_json:
            print_json({"inbox": inbox.address, "format": form, "path": str(path), **_facts(result)})
        else:
            _print_result(inbox.address, result)
        if result.failed:
            raise SystemExit(1)

    run(main)


def _form_of(path: Path, given: Form | None) -> Form:
    """The form that was given, or that the path tells: agent.mbox, agent.jsonl, or a directory."""
    if given is None:
        told: dict[str, Form] = {".mbox": "mbox", ".jsonl": "jsonl"}
        given = "maildir" if path.is_dir() else told.get(path.suffix)
    if given is None:
        raise click.UsageError(f"--format is missing, and {path} does not tell it: one of {', '.join(FORMS)}")
    if given == "maildir" and str(path) == "-":
        raise click.UsageError("a Maildir is a directory; give its path")
    return given


def _one_line(facts: dict[str, Any]) -> str:
    import json

    return json.dumps(facts)


def _facts(result: Imported) -> dict[str, Any]:
    return {
        "imported": result.imported,
        "skipped": result.skipped,
        "failed": result.failed,
        "bytes": result.bytes,
        "problems": [{"where": problem.where, "problem": problem.problem} for problem in result.problems],
    }


def _print_result(address: str, result: Imported) -> None:
    for problem in result.problems:
        click.echo(f"not imported: {problem.where}: {problem.problem}", err=True)
    click.echo(f"imported into {address}: {counted(result.imported, 'email')}, {size_text(result.bytes)}")
    if result.skipped:
        click.echo(f"skipped, there already: {result.skipped:,}")
    if result.failed:
        click.echo(f"not imported: {result.failed:,}")
