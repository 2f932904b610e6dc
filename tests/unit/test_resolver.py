"""The resolver against a real server on loopback: what it asks, how it reads the reply, and whom it asks next."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import dns.flags
import dns.message
import pytest
import uvloop

from clawmail.net.dns_wire import EDNS_PAYLOAD_OCTETS, MAX_CNAMES, MAX_RECORDS
from clawmail.net.resolver import MAX_STRAY_DATAGRAMS, DnsResolver
from clawmail.protocol.dns import MX, TLSA, Answer, Status
from tests.support.dns_server import SERVFAIL, SILENCE, DnsServer, DnsServerThread, Fault

ZONE: dict[str, dict[str, Any]] = {
    "example.org": {
        "A": ["192.0.2.1", "192.0.2.2"],
        "AAAA": ["2001:db8::1"],
        "MX": ["20 b.example.org.", "10 A.example.org."],
        "TXT": ["v=spf1 -all", "x" * 300, b"\xff\x00"],
        "NS": ["NS1.example.org."],
    },
    "null.example.org": {"MX": ["0 ."]},
    "_25._tcp.mx.example.org": {"TLSA": ["3 1 1 " + "ab" * 32]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["Mail.Example.ORG."]},
    "alias.example.org": {"CNAME": ["second.example.org."]},
    "second.example.org": {"CNAME": ["example.org."]},
    "loop.example.org": {"CNAME": ["loop2.example.org."]},
    "loop2.example.org": {"CNAME": ["loop.example.org."]},
    "dead.example.org": {"*": SERVFAIL},
    "quiet.example.org": {"*": SILENCE},
}


@asynccontextmanager
async def asking(
    zone: dict[str, dict[str, Any]] | None = None, *, timeout_seconds: float = 5, **options: Any
) -> AsyncIterator[tuple[DnsServer, DnsResolver]]:
    async with DnsServer(ZONE if zone is None else zone, **options) as server:
        resolver = DnsResolver([server.nameserver], timeout_seconds=timeout_seconds)
        yield server, resolver
        await resolver.close()


async def test_every_kind_of_record() -> None:
    async with asking() as (_, resolver):
        assert (await resolver.a("example.org")).records == (IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2"))
        assert (await resolver.aaaa("example.org")).records == (IPv6Address("2001:db8::1"),)
        assert (await resolver.mx("example.org")).records == (MX(10, "a.example.org"), MX(20, "b.example.org"))
        assert (await resolver.mx("null.example.org")).records == (MX(0, ""),)
        assert (await resolver.txt("example.org")).records == (b"v=spf1 -all", b"x" * 300, b"\xff\x00")
        assert (await resolver.ns("example.org")).records == ("ns1.example.org",)
        assert (await resolver.ptr(ip_address("192.0.2.1"))).records == ("mail.example.org",)
        assert (await resolver.tlsa("_25._tcp.mx.example.org")).records == (TLSA(3, 1, 1, b"\xab" * 32),)


async def test_a_missing_name_is_told_from_missing_records() -> None:
    async with asking() as (_, resolver):
        assert (await resolver.a("gone.example.org")).status is Status.NO_NAME
        assert (await resolver.a("null.example.org")).status is Status.NO_DATA
        assert (await resolver.a("_tcp.mx.example.org")).status is Status.NO_DATA  # only names below it


async def test_aliases_are_followed() -> None:
    async with asking() as (server, resolver):
        server.ttl = 77
        answer = await resolver.a("Alias.example.org")
        assert (answer.status, answer.canonical_name, answer.ttl) == (Status.FOUND, "example.org", 77)
        assert (await resolver.tlsa("alias.example.org")).status is Status.NO_DATA
        loop = await resolver.a("loop.example.org")
        assert loop.failed and "CNAME" in loop.problem


async def test_an_alias_the_server_leaves_unfinished_is_asked_on() -> None:
    def first_record_only(reply: bytes) -> list[bytes]:
        message = dns.message.from_wire(reply)
        del message.answer[1:]
        return [message.to_wire()]

    async with asking() as (server, resolver):
        server.fault("*", Fault(tamper=first_record_only))
        answer = await resolver.aaaa("alias.example.org")
        assert (answer.status, answer.canonical_name) == (Status.FOUND, "example.org")
        assert [name for _, name in server.asked] == ["alias.example.org", "second.example.org", "example.org"]
        assert (await resolver.a("loop.example.org")).failed
        assert len(server.asked) == 3 + MAX_CNAMES


@pytest.mark.parametrize("name", ["", ".", "a..b", ".example.org", "l" * 64 + ".org", "a." * 127 + "org"])
async def test_what_is_no_name_is_not_asked(name: str) -> None:
    async with asking() as (server, resolver):
        assert (await resolver.txt(name)).status is Status.NO_NAME
        assert server.asked == []


@pytest.mark.parametrize(
    "name", ["a b.example.org", "x:y/z.example.org", "jürgen.example.org", "a\\.example.org", "é\0\x7f.org"]
)
async def test_any_octet_may_stand_in_a_name(name: str) -> None:
    async with asking({name: {"A": ["192.0.2.1"]}}) as (server, resolver):
        assert (await resolver.a(name)).found
        assert server.asked == [("A", name)]


async def test_the_question_on_the_wire() -> None:
    async with asking() as (server, resolver):
        await asyncio.gather(*[resolver.a(f"{i}.example.org") for i in range(20)])
        for query in server.queries:
            assert query.flags == dns.flags.RD | dns.flags.AD
            assert (query.edns, query.payload, query.ednsflags) == (0, EDNS_PAYLOAD_OCTETS, 0)
        # A forger has to guess both (RFC 5452 section 9.2).
        assert len({query.id for query in server.queries}) > 15
        assert len({port for _, port in server.peers}) > 15


@pytest.mark.parametrize("authenticated", [True, False])
async def test_the_ad_bit_is_kept(authenticated: bool) -> None:
    async with asking(authenticated=authenticated) as (_, resolver):
        assert (await resolver.a("example.org")).authenticated is authenticated
        assert (await resolver.a("gone.example.org")).authenticated is authenticated


async def test_what_does_not_fit_comes_by_tcp() -> None:
    zone = {"big.example.org": {"TXT": ["x" * 60_000]}, "cut.example.org": {"A": ["192.0.2.1"]}}
    async with asking(zone) as (server, resolver):
        server.fault("cut.example.org", Fault(truncated=True))
        assert (await resolver.txt("big.example.org")).records == (b"x" * 60_000,)
        assert (await resolver.a("cut.example.org")).records == (IPv4Address("192.0.2.1"),)
        assert server.asked_over_tcp == [("TXT", "big.example.org"), ("A", "cut.example.org")]


async def test_records_beyond_the_limit_are_left_out() -> None:
    addresses = [str(IPv4Address(0x0A000000 + i)) for i in range(MAX_RECORDS + 50)]
    async with asking({"many.example.org": {"A": addresses}}) as (_, resolver):
        assert [str(address) for address in (await resolver.a("many.example.org")).records] == addresses[:MAX_RECORDS]


async def test_a_server_from_before_edns_is_asked_again_without() -> None:
    def header_only(reply: bytes) -> list[bytes]:
        code = reply[3] & 0x0F
        return [reply[:2] + b"\x80" + bytes((code,)) + bytes(8)] if code else [reply]

    async with asking() as (server, resolver):
        server.fault("*", Fault(refuses_edns=True))
        assert (await resolver.a("example.org")).found
        server.fault("*", Fault(refuses_edns=True, tamper=header_only))
        assert (await resolver.aaaa("example.org")).found
        assert [query.edns for query in server.queries] == [0, -1, 0, -1]


async def test_replies_to_other_questions_are_ignored() -> None:
    def strays_first(reply: bytes) -> list[bytes]:
        other_id = struct.pack("!H", struct.unpack("!H", reply[:2])[0] ^ 1) + reply[2:]
        other_name = reply.replace(b"\x07example", b"\x07forgery")
        not_a_reply = reply[:2] + b"\x01" + reply[3:]
        no_question = reply[:4] + bytes(8)
        return [other_id, other_name, not_a_reply, no_question, reply[:5], b"", reply]

    async with asking() as (server, resolver):
        server.fault("*", Fault(tamper=strays_first))
        assert (await resolver.a("example.org")).records[0] == IPv4Address("192.0.2.1")
        assert server.asked == [("A", "example.org")]


async def test_a_flood_of_guesses_moves_the_question_to_tcp() -> None:
    def guesses(reply: bytes) -> list[bytes]:
        forged = struct.pack("!H", struct.unpack("!H", reply[:2])[0] ^ 1) + reply[2:]
        return [forged] * MAX_STRAY_DATAGRAMS

    async with asking() as (server, resolver):

        def over_udp_only(reply: bytes) -> list[bytes]:
            return [reply] if server.asked_over_tcp else guesses(reply)

        server.fault("*", Fault(tamper=over_udp_only))
        assert (await resolver.a("example.org")).found
        assert server.asked_over_tcp == [("A", "example.org")]


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED", "NOTIMP", "FORMERR", "YXDOMAIN"])
async def test_other_codes_are_failures_in_words(code: str) -> None:
    async with asking() as (server, resolver):
        server.fault("*", Fault(rcode=code))
        answer = await resolver.a("example.org")
        assert answer.failed and code in answer.problem


async def test_a_silent_server_is_given_up_in_time() -> None:
    async with asking(timeout_seconds=0.9) as (server, resolver):
        answer = await resolver.a("quiet.example.org")
        assert answer.failed and answer.problem
        assert len(server.asked) == 3  # three tries share the time


async def test_the_next_server_is_asked_and_remembered() -> None:
    async with DnsServer() as failing, DnsServer(ZONE) as good:
        failing.fault("*", Fault(rcode="SERVFAIL"))
        resolver = DnsResolver([failing.nameserver, good.nameserver], timeout_seconds=5)
        assert (await resolver.a("example.org")).found
        assert (await resolver.mx("example.org")).found
        assert (await resolver.a("dead.example.org")).failed
        assert [kind for kind, _ in failing.asked] == ["A", "A"]
        assert [kind for kind, _ in good.asked] == ["A", "MX", "A"]
        await resolver.close()


async def test_a_silent_or_absent_server_is_followed_by_the_next() -> None:
    async with DnsServer() as silent, DnsServer(ZONE) as good:
        silent.fault("*", Fault(silent=True))
        resolver = DnsResolver(["127.0.0.1:1", silent.nameserver, good.nameserver], timeout_seconds=1)
        assert (await resolver.a("example.org")).found
        await resolver.close()


async def test_a_missing_server_is_a_failure() -> None:
    resolver = DnsResolver(["127.0.0.1:1"], timeout_seconds=5)
    answer = await resolver.a("example.org")
    assert answer.failed and "127.0.0.1:1" in answer.problem
    await resolver.close()


async def test_a_server_that_hangs_up_on_tcp() -> None:
    async with asking() as (server, resolver):
        server.fault("*", Fault(truncated=True, tamper=lambda reply: [reply] if reply[2] & 2 else [b"\0"]))
        assert (await resolver.a("example.org")).failed


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
            udp.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6")
async def test_an_ipv6_server() -> None:
    async with asking(host="::1") as (server, resolver):
        assert server.nameserver.startswith("[::1]:")
        assert (await resolver.a("example.org")).found


def test_uvloop_and_a_server_in_a_thread() -> None:
    async def ask(nameserver: str) -> tuple[Answer[IPv4Address], Answer[bytes]]:
        resolver = DnsResolver([nameserver], timeout_seconds=5)
        answers = await resolver.a("example.org"), await resolver.txt("big.example.org")
        await resolver.close()
        return answers

    with DnsServerThread(ZONE) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server.set("big.example.org", "TXT", ["x" * 5_000])
        short, long = runner.run(ask(server.nameserver))
    assert short.found and long.records == (b"x" * 5_000,)
    assert server.asked.count(("TXT", "big.example.org")) == 2
