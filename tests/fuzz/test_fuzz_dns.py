"""DNS replies with anything in them. The invariants: reading never raises, gives records of the type asked for or none,
and a reply to another question is never taken."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Any

import dns.message
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.net.dns_wire import MAX_RECORDS, is_reply_to, read_reply, write_question
from clawmail.net.resolver import DnsResolver
from clawmail.protocol.dns import MX, TLSA, Status
from tests.support.dns_server import DnsServer, Fault
from tests.support.dns_zone import ServedZone

NAME = "alias.example.org"
ZONE: dict[str, dict[str, Any]] = {
    NAME: {"CNAME": ["example.org."]},
    "example.org": {
        "A": ["192.0.2.1"],
        "MX": ["10 mx.example.org.", "20 ."],
        "TXT": ["v=spf1 -all", "x" * 300],
        "NS": ["ns.example.org."],
        "TLSA": ["3 1 0 abcd"],
    },
}
TYPES = {"A": IPv4Address, "MX": MX, "TXT": bytes, "NS": str, "TLSA": TLSA}


def good_reply(question: bytes) -> bytes:
    query = dns.message.from_wire(question)
    reply = dns.message.make_response(query)
    ServedZone(ZONE)._fill(reply, NAME, dns.rdatatype.to_text(query.question[0].rdtype))
    return reply.to_wire()


@st.composite
def damages(draw: st.DrawFn, wire: bytes) -> bytes:
    """A few octets changed, put in or taken out, or the end cut off."""
    octets = bytearray(wire)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(octets)))
        octets[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(octets[: draw(st.sampled_from((len(octets), draw(st.integers(0, len(octets))))))])


@settings(max_examples=500, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(TYPES)))
def test_a_damaged_reply_is_read_or_refused(data: st.DataObject, kind: str) -> None:
    question = write_question(data.draw(st.integers(0, 65_535)), NAME.encode().split(b"."), kind, edns=True)
    wire = data.draw(damages(good_reply(question)))
    if not is_reply_to(question, wire):
        return
    answer, unfinished = read_reply(wire, NAME, kind)
    assert (answer.status is Status.FOUND) == bool(answer.records)
    assert all(isinstance(record, TYPES[kind]) for record in answer.records)
    assert len(answer.records) <= MAX_RECORDS and answer.ttl >= 0
    assert bool(answer.problem) == answer.failed
    assert unfinished is None or answer.status is Status.NO_DATA


@settings(max_examples=300, deadline=None)
@given(wire=st.binary(max_size=80), kind=st.sampled_from(sorted(TYPES)))
def test_any_octets_are_read_or_refused(wire: bytes, kind: str) -> None:
    question = write_question(7, [b"example", b"org"], kind, edns=True)
    header = question[:2] + b"\x81\x80\0\1"
    for reply in (wire, header + wire, header + struct.pack("!HHH", 1, 1, 0) + question[12:-11] + wire):
        is_reply_to(question, reply)
        read_reply(reply, "example.org", kind)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
async def test_over_the_wire_damaged_replies_end_in_an_answer(data: st.DataObject) -> None:
    """Whatever precedes the good reply with another id, the good one is taken."""

    def tamper(reply: bytes) -> list[bytes]:
        strays = [data.draw(damages(reply)) for _ in range(3)]
        return [*(bytes((reply[0] ^ 0xFF,)) + stray[1:] for stray in strays), reply]

    async with DnsServer(ZONE) as server:
        server.fault("*", Fault(tamper=tamper))
        resolver = DnsResolver([server.nameserver], timeout_seconds=5)
        assert (await resolver.a(NAME)).records == (IPv4Address("192.0.2.1"),)
        await resolver.close()
