"""Haraka as it can be compared with us: one process, SPF and DKIM judged, each message flushed before its 250."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.bench import mail
from tests.bench.figures import program
from tests.bench.house import scratch
from tests.bench.servers import greets, running
from tests.support.ports import free_port

HARAKA = ("haraka", "npm install -g Haraka")
PLUGINS = "bench\nspf\ndkim\nrcpt_to.in_host_list\n"
#: it spares its own machine and private networks the judging: here they are strangers. It asks our name server. What
#: did not pass is refused, so that nothing is measured which was not judged.
PLUGIN = """
const dns = require('node:dns')
const fs = require('node:fs')
const path = require('node:path')
exports.register = function () { dns.setServers([NAMESERVER]) }
exports.hook_connect = function (next, connection) {
  for (const each of ['is_private', 'is_local']) connection.set('remote', each, false)
  next()
}
exports.hook_queue = function (next, connection) {
  const txn = connection.transaction
  const passed = txn.results.get('dkim')?.pass.length && txn.results.get('spf')?.result === 'Pass'
  if (!passed) return next(DENY, 'SPF and DKIM have to pass')
  const file = fs.createWriteStream(path.join(__dirname, '..', 'mail', txn.uuid), { flush: true })
  file.on('close', () => next(OK))
  txn.message_stream.pipe(file)
}
"""


@asynccontextmanager
async def judging_haraka(nameserver: str) -> AsyncIterator[tuple[int, int]]:
    """Its process id and its port."""
    port = free_port("127.0.0.1")
    async with scratch() as home:
        silent = asyncio.subprocess.DEVNULL
        command = (program("haraka"), "-i", str(home))
        installing = await asyncio.create_subprocess_exec(*command, stdout=silent, stderr=silent)
        if await installing.wait() != 0:
            raise RuntimeError(f"{' '.join(command)} failed")
        (home / "mail").mkdir()
        (home / "config" / "smtp.ini").write_text(f"listen=127.0.0.1:{port}\nnodes=0\n")
        (home / "config" / "plugins").write_text(PLUGINS)
        (home / "config" / "host_list").write_text(f"{mail.DOMAIN}\n")
        (home / "config" / "loglevel").write_text("ERROR\n")
        (home / "config" / "me").write_text(f"mx.{mail.DOMAIN}\n")
        (home / "plugins" / "bench.js").write_text(PLUGIN.replace("NAMESERVER", json.dumps(nameserver)))
        async with running((program("haraka"), "-c", str(home)), greets(port)) as pid:
            yield pid, port
