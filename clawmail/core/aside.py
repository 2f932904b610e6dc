"""Work that takes long beside the server: in one process of its own, at low priority.

Taking a message of 25 MiB apart computes for a tenth of a second without letting go of the interpreter, and a thread
that does so holds up everybody's mail for as long. One that does let go, matching a tenant's patterns, still wants the
core that others' mail is waiting for. So the pure functions that do such work run elsewhere, one at a time, and tenants
get their turns one after the other. Bytes and results pass through a file in memory that both processes have open:
writing and reading it lets other threads run, where a pipe would go through the event loop piece by piece. The process
is started when there is work, and ended after a while without. Should it die, as large processes do where memory is
short, or be starved for too long, the work is done in a thread after all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from clawmail.base.log import logger
from clawmail.base.tenant import current_tenant, house_task
from clawmail.store.turns import Turns

#: octets from which a message is worth the way; below, a thread has read it before the other process would know of it.
LARGE_BYTES = 1024 * 1024
#: how far the process stands back (nice(2)).
NICE = 10
#: seconds without work after which it is ended, and that one piece of work may take.
IDLE_SECONDS = 30.0
WORK_SECONDS = 60.0
#: octets of the size that goes before what is said over the pipes.
_SIZE = 8

P = ParamSpec("P")
T = TypeVar("T")

log = logger("aside")


class Aside:
    """Calls functions in the other process."""

    def __init__(self) -> None:
        self._turns = Turns(1)
        self._process: subprocess.Popen[bytes] | None = None
        #: to and from it.
        self._wire: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._memory = -1
        self._idle: asyncio.TimerHandle | None = None

    async def run(self, work: Callable[Concatenate[bytes, P], T], raw: bytes, *more: P.args, **named: P.kwargs) -> T:
        """``work(raw, …)``, a function of a module, of picklable arguments; what it raises is raised."""
        if len(raw) < LARGE_BYTES or not hasattr(os, "memfd_create"):  # macOS has no files in memory
            return await asyncio.to_thread(work, raw, *more, **named)
        return await self._elsewhere(partial(work, raw, *more, **named), raw, (work, more, named))

    async def compute(self, work: Callable[P, T], *more: P.args, **named: P.kwargs) -> T:
        """``work(…)``, of which nothing is large but what it takes; what it raises is raised."""
        here = partial(work, *more, **named)
        if not hasattr(os, "memfd_create"):
            return await asyncio.to_thread(here)
        return await self._elsewhere(here, b"", (_without_bytes, (work, *more), named))

    async def close(self) -> None:
        """Ends the process."""
        async with self._turns.place(current_tenant.get()):
            await self._end()

    async def _elsewhere(self, here: Callable[[], T], raw: bytes, question: object) -> T:
        """The answer of the other process; where there is none, ``here`` gives it."""
        async with self._turns.place(current_tenant.get()):
            try:
                async with asyncio.timeout(WORK_SECONDS):
                    done, result = await self._ask(question, raw)
            except (OSError, EOFError, TimeoutError) as problem:
                await self._end()
                log.warning("no process beside the server", problem=str(problem) or type(problem).__name__)
                return await asyncio.to_thread(here)
            except BaseException:  # cancelled: what it says later is no answer to the next question
                await self._end()
                raise
            self._rest()
        if not done:
            raise result
        return result  # type: ignore[no-any-return]  # what ``work`` gave

    async def _ask(self, question: object, raw: bytes) -> tuple[bool, Any]:
        if self._idle is not None:
            self._idle.cancel()
        answers, questions = await self._started()
        await asyncio.to_thread(_fill, self._memory, raw)
        questions.write(_framed(pickle.dumps((len(raw), question))))
        await questions.drain()
        size = int.from_bytes(await answers.readexactly(_SIZE))
        return await asyncio.to_thread(_take, self._memory, size)

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._process is None or self._wire is None or self._process.poll() is not None:
            await self._end()
            self._memory = os.memfd_create("clawmail")
            here, there = socket.socketpair()
            # Not by the loop, which would copy the tables of all our memory first: some 30 ms.
            self._process = await asyncio.to_thread(_start, self._memory, there)
            self._wire = await asyncio.open_connection(sock=here)
        return self._wire

    def _rest(self) -> None:
        """Nothing to do for now; if it stays so, the process ends."""
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(IDLE_SECONDS, lambda: house_task(self.close(), "end the process aside"))

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        process, self._process = self._process, None
        wire, self._wire = self._wire, None
        memory, self._memory = self._memory, -1
        if memory >= 0:
            os.close(memory)
        if wire is not None:
            wire[1].close()
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)


def _start(memory: int, wire: socket.socket) -> subprocess.Popen[bytes]:
    """Starts the process at the other end of ``wire``, which is closed here, whoever has stopped waiting meanwhile."""
    command = (sys.executable, "-m", __name__, str(memory))
    with wire:
        end = wire.fileno()
        return subprocess.Popen(command, stdin=end, stdout=end, pass_fds=[memory], start_new_session=True)


def _without_bytes(_raw: bytes, work: Callable[P, T], *more: P.args, **named: P.kwargs) -> T:
    return work(*more, **named)


def _framed(said: bytes) -> bytes:
    return len(said).to_bytes(_SIZE) + said


def _fill(memory: int, content: bytes) -> None:
    """Makes ``content`` all that the file holds."""
    os.ftruncate(memory, 0)
    view, at = memoryview(content), 0
    while at < len(view):
        at += os.pwrite(memory, view[at:], at)


def _take(memory: int, size: int) -> tuple[bool, Any]:
    """What the other process answered; the file is emptied."""
    said = os.pread(memory, size, 0)
    os.ftruncate(memory, 0)
    answer: tuple[bool, Any] = pickle.loads(said)
    return answer


def _answer(memory: int, size: int, work: Callable[..., object], more: tuple[object, ...], named: Any) -> bytes:
    try:
        return pickle.dumps((True, work(os.pread(memory, size, 0), *more, **named)))
    except Exception as error:  # noqa: BLE001  whoever asked shall have it
        return pickle.dumps((False, error))


def main(memory: int) -> None:
    """The other process: answers until nobody asks any more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its pipe does
    with contextlib.suppress(PermissionError):  # a sandbox without setpriority: beside is still better than within
        os.nice(NICE)
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while head := questions.read(_SIZE):
        size, (work, more, named) = pickle.loads(questions.read(int.from_bytes(head)))
        said = _answer(memory, size, work, more, named)
        _fill(memory, said)
        answers.write(len(said).to_bytes(_SIZE))
        answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
