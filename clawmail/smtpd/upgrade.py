"""TLS put under a connection that is open already (RFC 3207, or RFC 8314 section 3.3 behind a PROXY header)."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

#: seconds in which a TLS handshake has to be done (RFC 8314 knows no figure; slow clients need a few).
HANDSHAKE_SECONDS = 30.0


async def put_under(
    loop: asyncio.AbstractEventLoop, transport: Any, protocol: asyncio.Protocol, context: ssl.SSLContext, ahead: bytes
) -> tuple[Any, str]:
    """Shakes hands as the server; returns the new transport, and version and cipher in words.

    Reading is paused. ``ahead`` are octets of the handshake that were received before. Raises OSError
    (``ssl.SSLError`` is one) when there is no handshake.
    """
    shaking = loop.create_task(
        loop.start_tls(transport, protocol, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_SECONDS)
    )
    try:
        if ahead:
            # One turn of the loop for the task to begin, one for TLS to be connected. The socket is read again after
            # that turn, so what was received first is still the first to get there.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            _feed(transport.get_protocol(), ahead)
        secured = await shaking
    except asyncio.CancelledError:
        shaking.cancel()
        raise
    if secured is None:
        raise ConnectionAbortedError("the client left during the handshake")
    ssl_object = secured.get_extra_info("ssl_object")
    return secured, f"{ssl_object.version()} {ssl_object.cipher()[0]}"


def _feed(protocol: asyncio.BufferedProtocol, octets: bytes) -> None:
    """Hands over octets in the manner of a transport."""
    while octets:
        buffer = memoryview(protocol.get_buffer(len(octets)))
        count = min(len(buffer), len(octets))
        buffer[:count] = octets[:count]
        protocol.buffer_updated(count)
        octets = octets[count:]
