"""A shell to run ``clawmail`` commands in: in this process, which is fast, or as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from clawmail.__main__ import main
from clawmail.base.log import configure

#: seconds that a command may take.
SECONDS = 60


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its answer: one document and nothing else."""
        assert self.out.count("\n") == 1, self
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """A shell with a configuration."""

    config: Path

    async def run(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Runs a command in this process, in a thread with a loop of its own."""
        runner = CliRunner(env={"CLAWMAIL_CONFIG": str(self.config)})
        try:
            result = await asyncio.to_thread(runner.invoke, main, arguments, input=stdin)
        finally:
            configure()  # the command set up the log, to a standard error that is gone
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return Ran(result.exit_code, result.stdout, result.stderr)

    async def start(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Runs a command as a process of its own."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "clawmail", *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "CLAWMAIL_CONFIG": str(self.config)},
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), SECONDS)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Ran(process.returncode, out.decode(), err.decode())

    async def json(self, *arguments: str, status: int = 0) -> Any:
        ran = await self.run(*arguments, "--json")
        assert ran.status == status, ran
        return ran.json

    async def refusal(self, *arguments: str) -> str:
        ran = await self.run(*arguments)
        assert (ran.status, ran.out) == (1, ""), ran
        assert ran.err.startswith("Error: "), ran
        return ran.err
