"""Name servers as people write them in settings, and those of the system."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from clawmail.net.nameservers import _system_servers, find_nameservers, split_host_port


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("localhost:5353", "localhost", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]", "2001:db8::1", 53),
        (" [2001:db8::1]:5353 ", "2001:db8::1", 5353),
    ],
)
def test_host_and_port(text: str, host: str, port: int) -> None:
    assert split_host_port(text) == (host, port)


def test_addresses_are_ready_for_a_socket() -> None:
    four, six = find_nameservers(["127.0.0.1:5353", "[::1]:5353"])
    assert (four.family, four.address) == (socket.AF_INET, ("127.0.0.1", 5353))
    assert (six.family, six.address[:2]) == (socket.AF_INET6, ("::1", 5353))


@pytest.mark.parametrize(
    "text", ["192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:x", ":53", "", "no such host", "[::1]:-1"]
)
def test_a_bad_one_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a name server"):
        find_nameservers([text])


def test_those_of_the_system(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("# one\nsearch example.org\nnameserver 192.0.2.1\nnameserver\nnameserver ::1\noptions edns0\n" * 2)
    assert _system_servers(conf) == ["192.0.2.1", "::1", "192.0.2.1"]
    assert _system_servers(tmp_path / "missing") == ["127.0.0.1"]
    conf.write_text("search example.org\n")
    assert _system_servers(conf) == ["127.0.0.1"]
