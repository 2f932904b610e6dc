"""OpenDKIM as a milter that signs for the benchmark's domain, for a Postfix that is to be compared with us."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.bench import loads, mail
from tests.bench.house import POLL_SECONDS, scratch
from tests.support.daemon import free_port

START_SECONDS = 10.0
SETTINGS = """
Domain {domain}
Selector s1
KeyFile {home}/key.pem
Socket inet:{port}@127.0.0.1
Mode s
InternalHosts 127.0.0.0/8
Canonicalization relaxed/relaxed
Background no
RequireSafeKeys no
"""


@asynccontextmanager
async def signing_milter() -> AsyncIterator[int]:
    """OpenDKIM with an RSA key of 2,048 bits; its port."""
    program = shutil.which("opendkim", path="/usr/sbin:/usr/bin") or shutil.which("opendkim")
    assert program is not None
    port = free_port("127.0.0.1")
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    async with scratch() as home:
        (home / "key.pem").write_bytes(key)
        (home / "opendkim.conf").write_text(SETTINGS.format(domain=mail.DOMAIN, home=home, port=port))
        silent = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            program, "-f", "-x", str(home / "opendkim.conf"), stdout=silent, stderr=silent
        )
        try:
            await _listens(port)
            yield port
        finally:
            await loads.end(process)


async def _listens(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_SECONDS)
                continue
            writer.close()
            return
