"""A Postfix of the test's own: its configuration and queue in a temporary directory, on loopback, for a few seconds.

Needs Debian's ``postfix`` and root, because Postfix's master starts under no other account.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port

#: seconds for a start, and for a queue to become empty.
PATIENCE_SECONDS = 20.0

SERVICES = """
127.0.0.1:{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
"""

SETTINGS = """
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/mail.log
maillog_file_prefixes = {home}
myhostname = relay.sender.test
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtp_tls_security_level = may
smtpd_tls_security_level = none
transport_maps = inline:{{ {transports} }}
"""


def missing() -> str:
    """Why there can be no Postfix here; "" if there can."""
    if shutil.which("postfix", path="/usr/sbin:/usr/bin") is None:
        return "Postfix is not installed (Debian: apt-get install postfix)"
    return "" if os.geteuid() == 0 else "Postfix's master runs as root only"


class Postfix:
    """One that runs."""

    def __init__(self, home: Path, port: int) -> None:
        self.home = home
        self.port = port

    def log(self) -> str:
        """What it logged."""
        file = self.home / "mail.log"
        return file.read_text() if file.exists() else ""

    async def logged(self, *words: str) -> str:
        """Waits for a line of the log that has all of these words."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                for line in self.log().splitlines():
                    if all(word in line for word in words):
                        return line
                await asyncio.sleep(0.05)


@asynccontextmanager
async def run_postfix(
    transports: dict[str, str], extra: str = "", *, services: str = "", launcher: Sequence[str] = ()
) -> AsyncIterator[Postfix]:
    """Postfix that carries mail by ``transports``: domain to ``smtp:[127.0.0.1]:port`` or ``discard:``.

    ``extra``: further lines of main.cf; ``services``: of master.cf. ``launcher`` stands before the command that starts
    it, as nice(1) would.
    """
    # Its daemons run under an account of their own, which has to reach the folder.
    home, port = Path(tempfile.mkdtemp(prefix="clawmail-postfix-")), free_port()
    home.chmod(0o755)
    for folder in (home / "config", home / "queue", home / "data"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.chown(home / "data", "postfix", "postfix")
    table = ", ".join(f"{{ {domain} = {transport} }}" for domain, transport in transports.items())
    (home / "config" / "main.cf").write_text(SETTINGS.format(home=home, transports=table) + extra)
    (home / "config" / "master.cf").write_text(SERVICES.format(port=port) + services)
    running = Postfix(home, port)
    await _postfix(home, "start", launcher)
    try:
        await _answers(port)
        yield running
    finally:
        await _postfix(home, "stop")
        shutil.rmtree(home, ignore_errors=True)


async def _postfix(home: Path, what: str, launcher: Sequence[str] = ()) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"}
    process = await asyncio.create_subprocess_exec(
        *launcher,
        "postfix",
        "-c",
        str(home / "config"),
        what,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        status = await process.wait()
    if status != 0:
        log = home / "mail.log"
        raise RuntimeError(f"postfix {what} ended with {status}: {log.read_text() if log.exists() else 'no log'}")


async def _answers(port: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            await reader.readline()
            writer.close()
            return
