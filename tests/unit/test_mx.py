"""Who takes mail for a domain, and which of their addresses may be dialled."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from clawmail.net.addresses import is_public
from clawmail.net.dialer import Unreachable, dial
from clawmail.net.mx import find_addresses, find_route
from tests.support.zones import SERVFAIL, ScriptedResolver, Zone


def backwards(hosts: list[str]) -> None:
    hosts.reverse()


async def route(zone: Zone, destination: str = "there.test") -> tuple[tuple[str, ...], str]:
    found = await find_route(ScriptedResolver(zone), destination, shuffle=backwards)
    return found.hosts, str(found.refusal or "")


async def test_hosts_come_by_preference_and_equals_are_shuffled() -> None:
    zone = {"there.test": {"MX": ["20 c.test", "10 a.test", "10 b.test", "30 a.test"]}}
    assert await route(zone) == (("b.test", "a.test", "c.test"), "")
    found = await find_route(ScriptedResolver(zone), "there.test")
    assert found.primary == ("a.test", "b.test")


@pytest.mark.parametrize(
    ("zone", "hosts", "refusal"),
    [
        ({"there.test": {"A": ["192.0.2.1"]}}, ("there.test",), ""),  # implicit MX
        ({"there.test": {"MX": ["0 ."]}}, (), "556 5.1.10 there.test takes no mail (null MX)"),
        ({"there.test": {"MX": ["0 .", "10 mx.test"]}}, ("mx.test",), ""),  # RFC 7505 section 3: not a null MX
        ({"there.test": {"MX": SERVFAIL}}, (), "451 4.4.3 MX of there.test:"),
        ({"there.test": {"MX": ["10 [127.0.0.1]", "20 mx_1.test"]}}, ("mx_1.test",), ""),
        ({"there.test": {"MX": ["10 m\0x.test"]}}, (), "550 5.4.4 the MX records of there.test name no host"),
    ],
)
async def test_special_answers(zone: Zone, hosts: tuple[str, ...], refusal: str) -> None:
    assert await route(zone) == (hosts, refusal)


async def test_a_name_for_no_table_is_not_passed_on() -> None:
    zone = {"mx.test": {"CNAME": ["m\0.test"]}, "m\0.test": {"A": ["192.0.2.1"]}}
    assert (await find_addresses(ScriptedResolver(zone), "mx.test")).canonical_name == "mx.test"


async def test_a_flood_of_hosts_is_cut() -> None:
    zone = {"there.test": {"MX": [f"{n} mx{n}.test" for n in range(500)]}}
    assert len((await route(zone))[0]) == 20


@pytest.mark.parametrize("literal", ["[192.0.2.1]", "[IPv6:2001:db8::1]"])
async def test_an_address_literal_needs_no_dns(literal: str) -> None:
    resolver = ScriptedResolver({})
    assert (await find_route(resolver, literal)).hosts == (literal,)
    found = await find_addresses(resolver, literal)
    assert [str(one) for one in found.addresses] == [literal[1:-1].removeprefix("IPv6:")]
    assert resolver.asked == []


async def test_addresses_of_both_families_take_turns() -> None:
    zone = {"mx.test": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"]}}
    found = await find_addresses(ScriptedResolver(zone, authenticated=True), "mx.test")
    assert [str(one) for one in found.addresses] == ["2001:db8::1", "192.0.2.1", "192.0.2.2"]
    assert found.authenticated


@pytest.mark.parametrize(
    ("zone", "refusal"),
    [
        ({"other.test": {}}, "550 5.4.4 mx.test has no address"),
        ({"mx.test": {"A": SERVFAIL}}, "451 4.4.3 address of mx.test:"),
    ],
)
async def test_a_host_without_addresses(zone: Zone, refusal: str) -> None:
    found = await find_addresses(ScriptedResolver(zone), "mx.test")
    assert str(found.refusal).startswith(refusal)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"])
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "0.0.0.0", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255",
     "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::",
     "64:ff9b:1::10.0.0.1", "::127.0.0.1", "fec0::1", "192.0.0.8", "192.88.99.1"],
)  # fmt: skip
def test_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


class Taken(asyncio.Protocol):
    """Keeps its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


async def test_the_first_address_that_answers_wins() -> None:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    addresses = [ip_address(one) for one in ("127.0.0.9", "127.0.0.10", "127.0.0.1")]
    dialed = await dial(addresses, port, Taken, timeout=5, head_start=0.01)
    assert str(dialed.address) == "127.0.0.1"
    dialed.protocol.transport.close()
    server.close()
    with pytest.raises(Unreachable, match=r"127\.0\.0\.9: .*; 127\.0\.0\.10: "):
        await dial(addresses[:2], port, Taken, timeout=5, head_start=0.01)


async def test_the_source_address_decides_the_family() -> None:
    with pytest.raises(Unreachable, match="family"):
        await dial([ip_address("2001:db8::1")], 25, Taken, timeout=1, source_ip="127.0.0.1")
