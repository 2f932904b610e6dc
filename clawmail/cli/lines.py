"""Lines in, lines out: ``--jsonl -`` of the command line.

Every input line is a question in JSON and gives exactly one line of JSON, in the order of the input; a question that
cannot be answered gives ``{"error": …}``. Several are worked on at once, because most of the time of each is spent
waiting for the DNS, but never more than a few, and an answer is written as soon as those before it are.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from typing import IO, Any

#: questions worked on at once.
AT_ONCE = 32


class Unanswerable(Exception):
    """A question that cannot be answered; the text says why, for the one who asked."""


Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def answer_lines(source: IO[bytes], sink: IO[str], answer: Answerer) -> None:
    """Read questions from ``source`` to its end and write their answers to ``sink``."""
    under_way: asyncio.Queue[asyncio.Task[str] | None] = asyncio.Queue(AT_ONCE)

    async def write() -> None:
        while (task := await under_way.get()) is not None:
            sink.write(await task + "\n")
            sink.flush()

    nobody_reads = False
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            # A pipe may stay silent for long: read in a thread, so that answers are written meanwhile.
            while line := await asyncio.to_thread(source.readline):
                await under_way.put(tasks.create_task(_answer_line(line, answer)))
            await under_way.put(None)
    except* BrokenPipeError:
        nobody_reads = True
    if nobody_reads:
        # Out of its group again, so that the command line ends as quietly as any other in a pipe.
        raise BrokenPipeError(errno.EPIPE, "nobody reads the answers")


async def _answer_line(line: bytes, answer: Answerer) -> str:
    try:
        return to_json(await answer(_question(line)))
    except Unanswerable as problem:
        return to_json({"error": str(problem)})
    except Exception as problem:  # noqa: BLE001  # the promise is one answer a line, whatever happens to one of them
        return to_json({"error": f"{type(problem).__name__}: {problem}"})


def _question(line: bytes) -> dict[str, Any]:
    try:
        question = json.loads(line)
    except (ValueError, RecursionError) as problem:
        raise Unanswerable(f"not JSON: {problem}") from problem
    if not isinstance(question, dict):
        raise Unanswerable("not a JSON object")
    return question


def to_json(answer: dict[str, Any]) -> str:
    """One line of JSON in ASCII: whatever a stranger wrote, no terminal and no encoding can stumble over it."""
    return json.dumps(answer, separators=(",", ":"))


def text_of(question: dict[str, Any], key: str, default: str | None = None) -> str:
    """The text under ``key``; ``default`` where it is missing or null; ``Unanswerable`` without one or for no text."""
    value = question.get(key)
    if value is None:
        if default is None:
            raise Unanswerable(f'"{key}" is missing')
        return default
    if not isinstance(value, str):
        raise Unanswerable(f'"{key}" must be a string')
    return value
