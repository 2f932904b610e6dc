"""``clawmail backup`` and ``clawmail restore``: the whole house as files, and back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, run

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.core.backup import Summary

KEY_BYTES = 32

_directory = click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
_key_file = click.option(
    "--key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File of 64 hex digits that seal every file (AES-256-GCM). Made by: openssl rand -hex 32",
)


@click.command()
@_directory
@_key_file
@config_option
@json_option
def backup(directory: Path, key_file: Path | None, config_path: Path | None, as_json: bool) -> None:
    """Write everything the server holds to DIRECTORY, beside a running server if there is one.

    Run it again on the same directory: days whose messages are still the same are not written again.
    """
    settings, key = load_settings(config_path), _read_key(key_file)

    async def main() -> None:
        from clawmail.cli.progress import progress_bar
        from clawmail.core import backup as work
        from clawmail.core.backup_files import BackupDirectory, BackupError

        secret = Path(settings.server.data_dir) / "secret.key"
        stored = secret.read_bytes() if secret.exists() and not settings.server.secret_key else None
        async with _server(settings) as url:
            try:
                with progress_bar("backing up") as told:
                    found = await work.take(
                        url, BackupDirectory(directory, key), datetime.now(UTC), secret=stored, told=told
                    )
            except (BackupError, OSError) as error:
                raise click.ClickException(str(error)) from None
        _tell(found, "written", as_json)
        if stored is not None and key is None and not as_json:
            click.echo(f"note: {secret} opens the DKIM keys and is not in an unsealed backup; keep a copy elsewhere")

    run(main)


@click.command()
@_directory
@_key_file
@click.option("--hold-queue", is_flag=True, help="Hold mail that was on its way: some of it may have left since.")
@config_option
@json_option
def restore(directory: Path, key_file: Path | None, hold_queue: bool, config_path: Path | None, as_json: bool) -> None:
    """Fill an empty database with the backup in DIRECTORY. The server must not run meanwhile."""
    settings, key = load_settings(config_path), _read_key(key_file)

    async def main() -> None:
        from clawmail.cli.progress import progress_bar
        from clawmail.core import backup as work
        from clawmail.core.backup_files import BackupDirectory, BackupError
        from clawmail.store.migrate import MigrationError

        files = BackupDirectory(directory, key)
        async with _server(settings) as url:
            try:
                with progress_bar("restoring") as told:
                    found = await work.restore(url, files, hold_queue=hold_queue, told=told)
                secret = await files.secret()
            except (BackupError, MigrationError, OSError) as error:
                raise click.ClickException(str(error)) from None
        _tell(found, "restored", as_json)
        if secret is not None:
            click.echo(_put_secret(settings, secret), err=as_json)
        if not as_json:
            click.echo("now run: clawmail verify")

    run(main)


def _read_key(path: Path | None) -> bytes | None:
    """The key of a sealed backup; anything but 64 hex digits ends the command."""
    if path is None:
        return None
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise click.ClickException(f"{path}: expected 64 hex digits; make some with: openssl rand -hex 32")
    return key


def _put_secret(settings: Settings, secret: bytes) -> str:
    """Puts the key that opens the restored DKIM keys where the server looks for it; what to tell about that."""
    place = Path(settings.server.data_dir) / "secret.key"
    if settings.server.secret_key:
        return "server.secret_key is set: it has to be the key of the server that was backed up"
    if place.exists() and place.read_bytes().strip() != secret.strip():
        beside = place.with_name("secret.key.restored")
        _write_secret(beside, secret)
        return f"{place} is another key: put {beside} in its place, or the DKIM keys cannot be opened"
    place.parent.mkdir(parents=True, exist_ok=True)
    _write_secret(place, secret)
    return f"the secret key is in {place}"


def _write_secret(path: Path, secret: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(secret)
    if os.geteuid() == 0:  # a command of root's must not keep it from the account that the server runs under
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


@contextlib.asynccontextmanager
async def _server(settings: Settings) -> AsyncIterator[str]:
    """Where PostgreSQL is: ``database.url``, else the embedded one (the running one, if there is), as it is."""
    if settings.database.url:
        yield settings.database.url
        return
    from clawmail.store.embedded import EmbeddedPostgres

    embedded = EmbeddedPostgres(Path(settings.server.data_dir))
    await embedded.start()
    try:
        yield embedded.url
    finally:
        await embedded.stop()


def _tell(found: Summary, what: str, as_json: bool) -> None:
    facts = {"rows": found.rows, "bytes": found.bytes, "files": found.files, "kept": found.kept}
    if as_json:
        print_json(facts)
        return
    mail = f"{found.rows.get('messages', 0):,} messages, {found.rows.get('emails', 0):,} emails"
    kept = f", {found.kept} of them from before" if found.kept else ""
    click.echo(f"ok: {mail} {what}: {found.files} files{kept}, {found.bytes / 1e6:,.1f} MB")
