"""Mail programs of other people, run against our door."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

#: seconds that one run of a partner may take.
PATIENCE_SECONDS = 60.0

NODEMAILER = """
const nodemailer = require("nodemailer");
const {transport, mails} = JSON.parse(process.argv[1]);
(async () => {
  const sender = nodemailer.createTransport(transport);
  for (const mail of mails) {
    if (mail.raw64) mail.raw = Buffer.from(mail.raw64, "base64");
    const info = await sender.sendMail(mail);
    console.log(info.response);
  }
  sender.close();
})().catch((error) => { console.log(error.message); process.exit(1); });
"""


def missing(program: str, package: str) -> str:
    """Why a program cannot be run; "" if it can."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return "" if found else f"{program} is not installed (Debian: apt-get install {package})"


def missing_nodemailer() -> str:
    """Why nodemailer cannot be run; "" if it can."""
    if shutil.which("node") is None:
        return "node is not installed (Debian: apt-get install nodejs npm)"
    return "" if _node_path() else "nodemailer is not installed (npm install -g nodemailer)"


def _node_path() -> str:
    """The folder of Node modules that has nodemailer."""
    prefixes = ("/usr/lib", "/usr/local/lib")
    folders = [*os.environ.get("NODE_PATH", "").split(":"), *(f"{prefix}/node_modules" for prefix in prefixes)]
    return next((folder for folder in folders if folder and Path(folder, "nodemailer").is_dir()), "")


async def run(*command: str, stdin: bytes = b"", environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Runs a partner; its exit status, and what it said on both outputs."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": path, "LANG": "C.UTF-8", "HOME": "/tmp", **(environment or {})},
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        output, _ = await process.communicate(stdin)
    return process.returncode or 0, output.decode(errors="replace")


async def nodemailer(transport: dict[str, Any], *mails: dict[str, Any]) -> tuple[int, list[str]]:
    """Sends mails one after the other; the server's last reply to each."""
    told = json.dumps({"transport": transport, "mails": mails})
    status, output = await run("node", "-e", NODEMAILER, told, environment={"NODE_PATH": _node_path()})
    return status, output.splitlines()
