"""``clawmail doctor``: what keeps mail from flowing, and what to do about it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli.options import config_option, json_option, print_json, run
from clawmail.config import ConfigError, load

if TYPE_CHECKING:
    from clawmail.base.settings import Settings
    from clawmail.core.doctor.findings import Finding, Patient

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.argument("domains", metavar="[DOMAIN]...", nargs=-1)
@config_option
@json_option
def doctor(domains: tuple[str, ...], config_path: Path | None, as_json: bool) -> None:
    """Check DNS, reverse name, port 25, certificate, disk and database.

    Each line is ok, warn or fail, with what to do. Without DOMAIN the records of all verified domains are looked at.
    Exits with 1 if something fails, else with 0. Changes nothing.
    """

    async def main() -> None:
        from clawmail.core.doctor.findings import fail

        try:
            settings = load(config_path)
        except ConfigError as error:
            findings = [fail("configuration", problem, "Correct the configuration.") for problem in error.problems]
        else:
            findings = await _examined(settings, domains)
        if as_json:
            _print_json(findings)
        else:
            _print_lines(findings)
        if any(finding.level == "fail" for finding in findings):
            raise SystemExit(1)

    run(main)


async def _examined(settings: Settings, domains: Sequence[str]) -> list[Finding]:
    from clawmail.core.doctor.examine import examine

    async with _patient(settings) as patient:
        return await examine(patient, domains)


@contextlib.asynccontextmanager
async def _patient(settings: Settings) -> AsyncIterator[Patient]:
    """The installation with its database, if that can be reached; it is neither migrated nor made."""
    from clawmail.base.errors import StoreUnwell
    from clawmail.cli.wiring import open_resolver
    from clawmail.core.doctor.findings import Patient
    from clawmail.store.db import Database
    from clawmail.store.embedded import EmbeddedError, EmbeddedPostgres

    resolver = open_resolver(settings)
    embedded = None if settings.database.url else EmbeddedPostgres(Path(settings.server.data_dir))
    db, problem = None, ""
    try:
        if embedded is not None:
            await embedded.start()
        db = Database(settings.database.url or (embedded.url if embedded else ""), pool_size=5, timeout_seconds=10)
        await db.open()
    except (EmbeddedError, StoreUnwell, OSError) as error:
        reason = error.__cause__ or error
        db, problem = None, f"no PostgreSQL answers: {reason}"
    try:
        yield Patient(settings, resolver, db, problem)
    finally:
        await resolver.close()
        if db is not None:
            await db.close()
        if embedded is not None:
            await embedded.stop()


def _print_json(findings: Sequence[Finding]) -> None:
    counted = Counter(finding.level for finding in findings)
    print_json(
        {
            "ok": not counted["fail"],
            "counts": {level: counted[level] for level in ("ok", "warn", "fail")},
            "findings": [_facts(finding) for finding in findings],
        }
    )


def _facts(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "status": finding.level,
        "domain": finding.domain or None,
        "message": finding.text,
        "fix": finding.fix or None,
    }


def _print_lines(findings: Sequence[Finding]) -> None:
    for finding in findings:
        about = f"{finding.domain}: {finding.check}" if finding.domain else finding.check
        click.echo(f"{click.style(f'{finding.level:4}', fg=COLOURS[finding.level])}  {about}: {finding.text}")
        if finding.fix:
            click.echo(f"      do: {finding.fix}")
    counted = Counter(finding.level for finding in findings)
    click.echo(f"\n{counted['ok']} ok, {counted['warn']} to look at, {counted['fail']} failed")
