"""Ports for servers that are told theirs before they listen.

The kernel hands the ports of ``ip_local_port_range`` to whoever connects or listens on port 0, so one that was free a
moment ago may be somebody's when its server at last starts. These lie below that range, and each process of a parallel
run has a share of its own. A server that can listen on port 0 needs none of this.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket

#: shares begin here; the kernel's own range begins at 32,768 on Linux.
FIRST_PORT = 10_000
#: ports of one process, and how many processes have one each.
SHARE, SHARES = 2_000, 11


def _offered() -> itertools.cycle[int]:
    """The ports of this process, one after the other, so that none comes back soon."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_PORT + worker % SHARES * SHARE
    begin = secrets.randbelow(SHARE)  # another run may be at work in the same share
    return itertools.cycle([first + (begin + step) % SHARE for step in range(SHARE)])


_ports = _offered()


def free_port(*hosts: str) -> int:
    """A port that nobody has, for TCP or UDP, on any of ``hosts`` (127.0.0.1 if none is named)."""
    for port in itertools.islice(_ports, SHARE):
        if all(_is_free(host, port) for host in hosts or ("127.0.0.1",)):
            return port
    raise RuntimeError("no free port")


def _is_free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
