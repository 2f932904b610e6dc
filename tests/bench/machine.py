"""The machine and what a run cost it: CPU seconds and memory of process trees, from /proc; medians of several runs."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one figure."""

    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of ``values``, at least one."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return _number(self.median)
        return f"{_number(self.median)} ({_number(self.minimum)}–{_number(self.maximum)})"


def _number(value: float) -> str:
    """Three digits that count, thousands set apart, never an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of ``values`` lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def facts() -> dict[str, str]:
    """What a reader has to know of the machine to judge the figures, and how busy it was with other things."""
    load = os.getloadavg()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "disk": _disk(),
        "load average at the start": f"{load[0]:.2f} {load[1]:.2f} {load[2]:.2f}",
    }


def _disk() -> str:
    """How fast the disk under the temporary directory makes a little durable, and a lot."""
    waits, large = [], bytes(64 * MIB)
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(100):
            file.write(bytes(8192))
            began = time.perf_counter()
            os.fsync(file.fileno())
            waits.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        file.write(large)
        os.fsync(file.fileno())
        speed = len(large) / MIB / (time.perf_counter() - began)
    usual, slow = percentile(waits, 50), percentile(waits, 99)
    return f"8 KiB flushed in {usual:.2f} ms (p99 {slow:.1f}), 64 MiB at {speed:.0f} MiB/s"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The commit that was measured, marked when files differ from it; "" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def tree(root: int) -> set[int]:
    """``root`` and every process below it."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def postgres_of(root: int) -> set[int]:
    """The PostgreSQL processes in the tree of ``root``."""
    return {pid for pid in tree(root) if _name(pid) == "postgres"}


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system time that the trees of ``roots`` have used so far, ended children included."""
    total = 0
    for pid in set().union(*(tree(root) for root in roots)):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # utime, stime and, for children that have ended, cutime and cstime
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def memory_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of processes: pages that they share are counted once in all."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return total


def forget_peak(pid: int) -> None:
    """Lets ``peak_bytes`` count from now on (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory that one process held at a time, pages it shares included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024
