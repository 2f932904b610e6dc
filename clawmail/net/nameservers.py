"""Which name servers to ask: as the settings spell them, or those of the system (resolv.conf(5))."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

DNS_PORT = 53
RESOLV_CONF = Path("/etc/resolv.conf")
#: resolv.conf(5): at most MAXNS servers, and the local one where none is named.
MAX_SYSTEM_SERVERS = 3
LOCAL_SERVER = "127.0.0.1"


class NameServer(NamedTuple):
    """One server, ready for a socket."""

    #: as written, for messages.
    text: str
    family: socket.AddressFamily
    address: Any


def find_nameservers(texts: Sequence[str]) -> tuple[NameServer, ...]:
    """The servers of ``texts``, or the system's when there are none. Raises ``ValueError`` for a bad one."""
    return tuple([_find(text) for text in texts or _system_servers(RESOLV_CONF)])


def split_host_port(text: str) -> tuple[str, int]:
    """ "host", "host:port", "[v6]", "[v6]:port" or a bare IPv6 address. Raises ``ValueError`` for a bad port."""
    host, port = text.strip(), ""
    if host.startswith("["):
        host, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    if not port:
        return host, DNS_PORT
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        raise ValueError(f"{text!r} is not a name server: the port must be 1 to 65535")
    return host, int(port)


def _find(text: str) -> NameServer:
    host, port = split_host_port(text)
    if not host:
        raise ValueError(f"{text!r} is not a name server: the host is missing")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{text!r} is not a name server: {error}") from None
    return NameServer(text, family, address)


def _system_servers(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return [LOCAL_SERVER]
    words = [line.split() for line in lines]
    servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    return servers[:MAX_SYSTEM_SERVERS] or [LOCAL_SERVER]
