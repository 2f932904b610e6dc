"""``python -m tests.torture [--minutes N] [--world alone|together|mirrored]``: exits with 1 on one lost message."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections import Counter

from clawmail.base import log
from tests.torture.run import possible, print_table, torture
from tests.torture.standby import BINARIES
from tests.torture.worlds import alone, mirrored, together

WORLDS = {"alone": alone, "together": together, "mirrored": mirrored}


async def main(minutes: float, chosen: list[str], only: str) -> int:
    """Runs each world for its share of the time."""
    strikes, accounts, refusals = [], [], Counter[str]()
    if "mirrored" in chosen and not (BINARIES / "postgres").exists():
        print(f"mirrored: not done: no PostgreSQL in {BINARIES}", flush=True)
        chosen = [name for name in chosen if name != "mirrored"]
    try:
        for name in chosen:
            async with WORLDS[name]() as world:
                faults, missing = possible(world)
                faults = [fault for fault in faults if only in fault.name]
                for line in missing:
                    print(f"{name}: not done: {line}", flush=True)
                accounts.append(await torture(world, faults, seconds=60 * minutes / len(chosen)))
                strikes += world.ledger.strikes
                refusals += world.ledger.refusals
    finally:  # what the worlds before a broken one showed is not lost with it
        print_table(strikes, accounts, refusals)
    return 0 if all(account.clean for account in accounts) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="Is everything promised kept?")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--world", choices=list(WORLDS), action="append")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="order and choice of the faults")
    options = parser.parse_args()
    random.seed(options.seed)
    log.configure("error", "text")  # to standard error: the table is all that standard output holds
    print(f"seed {options.seed}", flush=True)
    sys.exit(asyncio.run(main(options.minutes, options.world or list(WORLDS), options.only)))
