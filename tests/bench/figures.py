"""What a benchmark finds: one figure each, its goal beside it, as a line of a table and as JSON."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tests.bench.machine import Spread

T = TypeVar("T")
OURS = "clawmail"
#: between two turns: what the last one left behind is done by then.
TURN_SECONDS = 0.1
#: where the programs are that run as daemons; the usual search path of an account may lack them.
DAEMONS = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin"


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is meant to reach."""

    limit: float
    at_least: bool

    def met_by(self, value: float) -> bool:
        """Whether ``value`` is good enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g}"


def at_least(limit: float) -> Goal:
    """A goal for rates."""
    return Goal(limit, at_least=True)


def at_most(limit: float) -> Goal:
    """A goal for times, costs and sizes."""
    return Goal(limit, at_least=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing measured."""

    group: str
    name: str
    unit: str
    spread: Spread
    #: whose figure it is: ours or a peer's.
    who: str = OURS
    goal: Goal | None = None
    #: of the process tree, PostgreSQL included, for a thousand of what is counted.
    cpu_seconds_per_1000: Spread | None = None
    #: proportional set size of the process tree after the runs.
    memory_mib: float | None = None

    @property
    def verdict(self) -> str:
        """Met or missed; "" where nothing was to be reached."""
        if self.goal is None:
            return ""
        return "met" if self.goal.met_by(self.spread.median) else "missed"


@dataclass(frozen=True, slots=True)
class Note:
    """What could not be measured here, and what to install."""

    group: str
    text: str


#: a benchmark hands over each figure as soon as it has it.
Record = Callable[[Figure | Note], None]


@dataclass(frozen=True, slots=True)
class Run:
    """How much is done: everything, or as much as fits into three minutes with all the others."""

    quick: bool
    record: Record
    #: messages in the store when its growth is measured; 0: the usual number.
    stored: int = 0
    #: where stores that took long to fill are kept for the next run; None: nowhere.
    keep: Path | None = None

    @property
    def rounds(self) -> int:
        """Runs of each figure."""
        return 3 if self.quick else 5

    def pick(self, quick: T, full: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    def needs(self, group: str, name: str, package: str) -> bool:
        """Whether a program is here; if not, the reader is told what to install."""
        if program(name):
            return True
        self.record(Note(group, f"{name} is missing ({package})"))
        return False


def program(name: str) -> str:
    """Where a program is, also one for administrators only; "" if it is nowhere."""
    return shutil.which(name) or shutil.which(name, path=DAEMONS) or ""


async def in_turns(rounds: int, contenders: Mapping[str, Callable[[], Awaitable[T]]]) -> dict[str, list[T]]:
    """Runs everybody once, then everybody again: what the machine does meanwhile is the same for all."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    for number in range(rounds):
        order = list(contenders.items())
        for name, work in order if number % 2 == 0 else reversed(order):
            results[name].append(await work())
            await asyncio.sleep(TURN_SECONDS)
    return results


def table(entries: Sequence[Figure | Note]) -> str:
    """The table that is printed at the end."""
    header = ("group", "what", "who", "median (min–max)", "unit", "goal", "", "CPU s / 1,000", "memory MiB")
    rows = [header, *(row_of(entry) for entry in entries if isinstance(entry, Figure))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{entry.group}: {entry.text}" for entry in entries if isinstance(entry, Note)]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def row_of(figure: Figure) -> tuple[str, ...]:
    """The cells of one figure."""
    cpu, memory = figure.cpu_seconds_per_1000, figure.memory_mib
    return (
        figure.group,
        figure.name,
        figure.who,
        str(figure.spread),
        figure.unit,
        str(figure.goal or ""),
        figure.verdict,
        f"{cpu.median:.2f}" if cpu else "",
        f"{memory:.0f}" if memory else "",
    )


@dataclass(frozen=True, slots=True)
class Findings:
    """A whole run, as it is kept in a file."""

    machine: dict[str, str]
    figures: list[Figure]
    notes: list[Note]

    def write(self, path: Path) -> None:
        """Keeps it."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(asdict(self)), indent=1) + b"\n")

    @classmethod
    def read(cls, path: Path) -> Findings:
        """What ``write`` kept."""
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def figure(self, group: str, name: str, who: str = OURS) -> Figure | None:
        """One figure by its names."""
        names = (group, name, who)
        return next((each for each in self.figures if (each.group, each.name, each.who) == names), None)


def findings(machine: dict[str, str], entries: Sequence[Figure | Note]) -> Findings:
    """Everything that was handed over."""
    figures = [entry for entry in entries if isinstance(entry, Figure)]
    return Findings(machine, figures, [entry for entry in entries if isinstance(entry, Note)])


def one(value: float) -> Spread:
    """A figure of a single run."""
    return Spread(value, value, value)


Json = dict[str, Any]
