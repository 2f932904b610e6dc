"""``clawmail verify``: recount every kept count, check every message against its hash, every reference and lease."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clawmail.cli.options import config_option, json_option, load_settings, print_json, run

if TYPE_CHECKING:
    from clawmail.core.verify import Problem

#: problems that JSON lists one by one; beyond that they are only counted.
MAX_LISTED = 10_000


@click.command()
@click.option("--repair", is_flag=True, help="Put right what can be derived again: counts, threads, leases, orphans.")
@config_option
@json_option
def verify(repair: bool, config_path: Path | None, as_json: bool) -> None:
    """Check the whole store, beside a running server if there is one.

    Exits with 0 when everything is as it should be (after --repair: again), else with 1.
    """
    settings = load_settings(config_path)

    async def main() -> None:
        from clawmail.cli.options import open_store
        from clawmail.cli.progress import progress_bar
        from clawmail.core.verify import Progress, Verifier

        rows: dict[str, int] = {}
        listed: list[dict[str, Any]] = []
        counted: Counter[str] = Counter()
        with progress_bar("verifying") as tell:

            def told(progress: Progress) -> None:
                rows[progress.table] = progress.rows
                tell(progress.table, progress.rows, progress.of_about)

            async with open_store(settings) as db:
                async for problem in Verifier(db, told=told).run(repair=repair):
                    counted["problems"] += 1
                    counted["repaired"] += problem.repaired
                    counted["repairable"] += problem.repairable and not problem.repaired
                    if not as_json:
                        click.echo(_line(problem))
                    elif len(listed) < MAX_LISTED:
                        listed.append(_facts(problem))
        left = counted["problems"] - counted["repaired"]
        if as_json:
            facts = {"ok": not left, "checked": rows, "problem_count": counted["problems"]}
            print_json({**facts, "repaired_count": counted["repaired"], "problems": listed})
        else:
            click.echo(_summary(rows, counted))
        if left:
            raise SystemExit(1)

    run(main)


def _line(problem: Problem) -> str:
    word = "repaired" if problem.repaired else "wrong"
    mark = click.style(f"{word:8}", fg="yellow" if problem.repaired else "red")
    return f"{mark} {problem.check}: {problem.table} {problem.id}: {problem.problem}"


def _summary(rows: dict[str, int], counted: Counter[str]) -> str:
    looked = ", ".join(f"{number:,} {table.replace('_', ' ')}" for table, number in rows.items())
    if not counted["problems"]:
        return f"ok: {looked}; nothing is wrong"
    left = counted["problems"] - counted["repaired"]
    text = f"{looked}; problems: {counted['problems']}, repaired: {counted['repaired']}, left: {left}"
    return text + ("; clawmail verify --repair puts right what can be" if counted["repairable"] else "")


def _facts(problem: Problem) -> dict[str, Any]:
    return {
        "check": problem.check,
        "table": problem.table,
        "id": str(problem.id),
        "problem": problem.problem,
        "repairable": problem.repairable,
        "repaired": problem.repaired,
    }
