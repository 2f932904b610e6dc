"""The benchmarks: ``python -m tests.bench [--quick] [--only NAME…] [--json FILE]``.

Nothing is installed: what is missing for a figure or a comparison is named at the end. ``tests.bench.chart`` draws a
picture from the JSON, ``tests.bench.report`` writes its tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from clawmail.base import log
from tests.bench import drain, footprint, growth, inbound, isolation, judging, outbound, queue, reads
from tests.bench.figures import Figure, Note, Run, findings, table
from tests.bench.machine import facts

BENCHMARKS: dict[str, Callable[[Run], Awaitable[None]]] = {
    "footprint": footprint.run,
    "judging": judging.run,
    "inbound": inbound.run,
    "growth": growth.run,
    "outbound": outbound.run,
    "queue": queue.run,
    "drain": drain.run,
    "reads": reads.run,
    "isolation": isolation.run,
}


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measures Clawmail, and peers beside it."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: under three minutes in all")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the findings are kept")
    parser.add_argument(
        "--stored", type=int, default=0, metavar="N", help="messages in the store of the growth benchmark"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where filled stores are kept for the next run")
    return parser.parse_args()


async def main(chosen: argparse.Namespace) -> int:
    """Runs what was chosen; 1 if a benchmark broke."""
    log.configure("error")  # what the parts used here have to say of themselves
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # servers end, directories go
    entries: list[Figure | Note] = []
    began, broken = time.monotonic(), 0
    spent: list[str] = []

    def record(entry: Figure | Note) -> None:
        entries.append(entry)
        words = f"{entry.name}, {entry.who}: {entry.spread} {entry.unit}" if isinstance(entry, Figure) else entry.text
        print(f"[{time.monotonic() - began:5.0f} s] {entry.group}: {words}", file=sys.stderr, flush=True)

    machine = facts() | {"mode": "quick" if chosen.quick else "full"}
    for name in chosen.only or BENCHMARKS:
        before = time.monotonic()
        try:
            await BENCHMARKS[name](Run(chosen.quick, record, chosen.stored, chosen.keep))
        except Exception as error:  # noqa: BLE001  what the others found is not thrown away
            broken += 1
            record(Note(name, f"broke off: {type(error).__name__}: {error}"))
        now = time.monotonic()
        spent.append(f"{name} {now - before:.0f}")
        machine["seconds"] = f"{now - began:.0f} ({', '.join(spent)})"
        if chosen.json is not None:  # after each one: a run of an hour may be broken off
            findings(machine, entries).write(chosen.json)
    print(table(entries))
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        status = asyncio.run(main(arguments()))
    except asyncio.CancelledError:
        status = 128 + signal.SIGTERM
    sys.exit(status)
