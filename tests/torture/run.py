"""One run: load, faults at random moments, then quiet, then the account and its table."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.torture.account import Account, settle_accounts
from tests.torture.faults import FAULTS, Fault, inflict
from tests.torture.ledger import Strike
from tests.torture.load import ApiClient, MailClient
from tests.torture.world import DOMAIN, World

MAIL_CLIENTS = 6
API_CLIENTS = 3
#: quiet time between two faults, in seconds.
QUIET_SECONDS = (0.3, 1.5)
#: longest wait for the queue to run empty at the end; what is left then is queued, not lost.
DRAIN_SECONDS = 90.0
#: one in five is refused for good, one in five stays in the house.
RECIPIENTS = ("a@far.test", "b@far.test", "c@far.test", "nobody-{}@far.test", f"other@{DOMAIN}")


async def torture(world: World, faults: Sequence[Fault], *, seconds: float, rounds: int | None = None) -> Account:
    """Loads ``world``, strikes ``faults`` in random order for ``seconds`` (or so many ``rounds`` of all), settles."""
    stop = asyncio.Event()
    clients = [MailClient(world.ledger, world.target, stop).run() for _ in range(MAIL_CLIENTS)]
    clients += [ApiClient(world.ledger, world.target, stop, RECIPIENTS).run() for _ in range(API_CLIENTS)]
    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client)
        try:
            await asyncio.sleep(1)
            await _strike_all(world, faults, time.monotonic() + seconds, rounds)
            await asyncio.sleep(1)
        finally:
            stop.set()
    await _drain(world)
    return await settle_accounts(world)


async def _strike_all(world: World, faults: Sequence[Fault], until: float, rounds: int | None) -> None:
    """Each fault once a round, so that none is left out, in another order each time."""
    while time.monotonic() < until and rounds != 0:
        for fault in random.sample(faults, len(faults)):
            if time.monotonic() > until:
                return
            await inflict(world, fault)
            await asyncio.sleep(random.uniform(*QUIET_SECONDS))
        rounds = None if rounds is None else rounds - 1


async def _drain(world: World) -> None:
    """Waits until nothing is on its way any more and every sender has been told."""
    moving = (
        "SELECT count(*) AS n FROM deliveries WHERE state IN ('queued', 'leased', 'deferred') OR notice IS NOT NULL"
    )
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while (await world.sql(moving))[0]["n"]:
                await asyncio.sleep(0.2)


def possible(world: World) -> tuple[list[Fault], list[str]]:
    """The faults this world can suffer, and why not the others."""
    reasons = {fault.name: fault.possible(world) for fault in FAULTS}
    return [f for f in FAULTS if not reasons[f.name]], [f"{name}: {why}" for name, why in reasons.items() if why]


def print_table(strikes: Sequence[Strike], accounts: Sequence[Account], refusals: dict[str, int]) -> None:
    """The one table of a run, for people."""
    console = Console(width=120, highlight=False)
    table = Table(title="faults")
    for column in ("fault", "times", "longest recovery", "notes"):
        table.add_column(column)
    by_kind: defaultdict[str, list[Strike]] = defaultdict(list)
    for strike in strikes:
        by_kind[strike.kind].append(strike)
    for kind, those in sorted(by_kind.items()):
        longest = max(s.recovered for s in those)
        notes = ", ".join(sorted({s.note for s in those if s.note})[-4:])
        table.add_row(kind, str(len(those)), f"{longest:.1f} s", notes)
    table.add_section()
    total = sum(a.promised_in for a in accounts)
    table.add_row("received: promised / stored", f"{total} / {sum(a.stored_in for a in accounts)}")
    states = {state: sum(a.states[state] for a in accounts) for a in accounts for state in a.states}
    notes = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
    table.add_row("sent: promised", str(sum(a.promised_out for a in accounts)), "", notes)
    reasons = {reason: sum(a.explained[reason] for a in accounts) for a in accounts for reason in a.explained}
    duplicates = sum(a.duplicates for a in accounts)
    explained = "\n".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()) if count)
    ahead = max((a.longest_ahead for a in accounts), default=0.0)
    explained += f"\n250 was heard at most {ahead:.2f} s before the harm that kept it from being written down"
    table.add_row("duplicates", str(duplicates), "", explained)
    table.add_row("refusals heard", "", "", ", ".join(f"{what} {count}" for what, count in sorted(refusals.items())))
    table.add_row("lost", str(sum(len(a.lost) for a in accounts)))
    table.add_row("answered as nobody may be", str(sum(len(a.turned_away) for a in accounts)))
    table.add_row("duplicates unexplained", str(sum(len(a.unexplained) for a in accounts)))
    table.add_row("wrong by clawmail verify", str(sum(len(a.wrong) for a in accounts)))
    table.add_row("tracebacks logged", str(sum(len(a.tracebacks) for a in accounts)))
    console.print(table)
    tracebacks = Counter(line for account in accounts for line in account.tracebacks)
    for line, count in tracebacks.most_common(5):
        console.print(f"  {count} x {line}", style="red", markup=False)
    for account in accounts:
        for line in [*account.lost, *account.turned_away, *account.unexplained, *account.wrong][:50]:
            console.print("  " + line, style="red", markup=False)
