"""Networks that stand for one owner, and the API's connections counted by them."""

from __future__ import annotations

from ipaddress import ip_address

import msgspec
import pytest

from clawmail.api.crowd import Crowd
from clawmail.base.settings import Api, Settings
from clawmail.protocol.networks import network_of


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
    ],
)
def test_the_network_of_an_address(ip: str, network: str) -> None:
    assert network_of(ip_address(ip)) == network


def test_connections_are_counted_by_network() -> None:
    crowd = Crowd(msgspec.structs.replace(Settings(), api=Api(max_connections_per_network=2)))
    assert [crowd.enter(ip) for ip in ("192.0.2.1", "::ffff:192.0.2.2", "192.0.2.3")] == ["192.0.2.0/24"] * 2 + [None]
    assert crowd.enter("192.0.3.1") == "192.0.3.0/24"
    assert [crowd.enter(ip) for ip in ("fe80::1%eth0", "fe80::2", "fe80::3")] == ["fe80::/64"] * 2 + [None]
    crowd.leave("192.0.2.0/24")
    assert crowd.enter("192.0.2.3") == "192.0.2.0/24"
    assert [crowd.enter(ip) for ip in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")] == [""] * 4
