"""Does an SMTP server answer at an address? A connection, its greeting (RFC 5321 section 4.2), and good-bye."""

from __future__ import annotations

import asyncio
import contextlib
import os
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

#: octets of a greeting that are read.
MAX_GREETING = 1024


class Greeting(NamedTuple):
    """What a server said, or why it said nothing."""

    #: the reply, without its line end; "" when there was none.
    text: str
    #: "" when there was one.
    problem: str


async def greeting(address: IPv4Address | IPv6Address, port: int, *, seconds: float, source_ip: str = "") -> Greeting:
    """Connects, reads the first line and leaves, all within ``seconds``."""
    local = (source_ip, 0) if source_ip else None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(str(address), port, local_addr=local, limit=MAX_GREETING)
            try:
                line = await reader.readline()
                writer.write(b"QUIT\r\n")
                await writer.drain()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return Greeting("", f"no answer from {address} port {port} within {seconds:g} s")
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        return Greeting("", f"{address} port {port}: {reason}")
    text = line.decode("ascii", "replace").rstrip("\r\n")
    return Greeting(text, "") if text else Greeting("", f"{address} port {port} closed the connection without a word")
