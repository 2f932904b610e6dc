"""A validating resolver between a test and its zones: Debian's unbound, which trusts one key, and what that key signed.

    zone = SignedZone("test", {"there.test": {"MX": ["10 mx.there.test"]}, …})
    async with validating(zone) as nameserver:
        ...

``SignedZone`` is signed by dnspython (RFC 4035); ``forge`` changes records behind the signatures' back.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import dns.dnssec
import dns.dnssectypes
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec
from dns.rdtypes.dnskeybase import Flag

from clawmail.net.resolver import DnsResolver
from tests.support.ports import free_port
from tests.support.zones import Zone

#: seconds until unbound answers.
PATIENCE_SECONDS = 10.0
TTL = 300

CONFIGURATION = """
server:
    directory: "{home}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: "{home}/unbound.log"
    num-threads: 1
    interface: 127.0.0.1
    port: {port}
    do-ip6: no
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    module-config: "validator iterator"
    trust-anchor: "{anchor}"
    # The zone is a made-up one: nobody else is asked, and the names RFC 6761 sets apart are served like others.
    local-zone: "{zone}" transparent
    target-fetch-policy: "0 0 0 0 0"
    qname-minimisation: no
    val-log-level: 2
remote-control:
    control-enable: no
stub-zone:
    name: "{zone}"
    stub-addr: 127.0.0.1@{authority}
    stub-prime: no
"""


def missing() -> str:
    """Why there can be no unbound here; "" if there can."""
    found = shutil.which("unbound", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    return "" if found else "unbound is not installed (Debian: apt-get install unbound)"


class SignedZone:
    """A zone with a key of its own, and the answers of its name server."""

    def __init__(self, origin: str, records: Zone) -> None:
        """``records`` as in ``tests.support.zones``, with the text of RFC 1035 for values."""
        self.origin = dns.name.from_text(origin)
        self.zone = dns.zone.Zone(self.origin, relativize=False)
        self._put(origin, "SOA", [f"ns.{origin}. hostmaster.{origin}. 1 3600 600 86400 {TTL}"])
        self._put(origin, "NS", [f"ns.{origin}."])
        self._put(f"ns.{origin}", "A", ["127.0.0.1"])
        for name, kinds in records.items():
            for kind, values in kinds.items():
                self._put(name, kind, [str(value) for value in values])
        key = ec.generate_private_key(ec.SECP256R1())
        self.dnskey = dns.dnssec.make_dnskey(
            key.public_key(),
            algorithm=dns.dnssectypes.Algorithm.ECDSAP256SHA256,
            flags=Flag.ZONE | Flag.SEP,
        )
        dns.dnssec.sign_zone(self.zone, keys=[(key, self.dnskey)], dnskey_ttl=TTL, lifetime=86_400)

    @property
    def trust_anchor(self) -> str:
        """Its key as a resolver is told of it."""
        return f"{self.origin} {TTL} IN DNSKEY {self.dnskey}"

    def forge(self, name: str, kind: str, values: list[str]) -> None:
        """Puts ``values`` in the place of the signed records and leaves the signature as it is."""
        self._put(name, kind, values)

    def _put(self, name: str, kind: str, values: list[str]) -> None:
        rdtype = dns.rdatatype.from_text(kind)
        rdatas = [dns.rdata.from_text(dns.rdataclass.IN, rdtype, value, relativize=False) for value in values]
        self.zone.replace_rdataset(dns.name.from_text(name), dns.rdataset.from_rdata_list(TTL, rdatas))

    def reply(self, wire: bytes) -> bytes:
        """The authoritative answer to one query, with signatures and proofs of absence."""
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.AA
        question = query.question[0]
        if self._add(reply.answer, question.name, question.rdtype):
            return reply.to_wire()
        soa = self._add(reply.authority, self.origin, dns.rdatatype.SOA)
        assert soa, "a zone has an SOA"
        if self.zone.get_node(question.name) is None:
            # RFC 4035 section 3.1.3.2: no such name, and no wildcard that could stand for it.
            reply.set_rcode(dns.rcode.NXDOMAIN)
            self._add(reply.authority, self._before(question.name), dns.rdatatype.NSEC)
            wildcard = dns.name.Name((b"*", *question.name.parent().labels))
            self._add(reply.authority, self._before(wildcard), dns.rdatatype.NSEC)
        else:
            self._add(reply.authority, question.name, dns.rdatatype.NSEC)
        return reply.to_wire()

    def _before(self, name: dns.name.Name) -> dns.name.Name:
        """The last name of the zone that sorts before ``name`` (RFC 4034 section 6.1)."""
        known: list[dns.name.Name] = list(self.zone)
        return max(one for one in known if one < name)

    def _add(self, section: list[dns.rrset.RRset], name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> bool:
        records = self.zone.get_rdataset(name, rdtype)
        if records is None:
            return False
        section.append(dns.rrset.from_rdata_list(name, records.ttl, list(records)))
        signatures = self.zone.get_rdataset(name, dns.rdatatype.RRSIG, covers=rdtype)
        if signatures is not None:
            section.append(dns.rrset.from_rdata_list(name, signatures.ttl, list(signatures)))
        return True


class _Authority(asyncio.DatagramProtocol):
    def __init__(self, zone: SignedZone) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self._zone.reply(data), addr)


@asynccontextmanager
async def validating(zone: SignedZone) -> AsyncIterator[str]:
    """unbound over ``zone`` and its name server; yields ``host:port``."""
    loop = asyncio.get_running_loop()
    authority, _ = await loop.create_datagram_endpoint(lambda: _Authority(zone), ("127.0.0.1", 0))
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="clawmail-unbound-") as home:
        configuration = Path(home, "unbound.conf")
        configuration.write_text(
            CONFIGURATION.format(
                home=home,
                port=port,
                zone=zone.origin,
                anchor=zone.trust_anchor,
                authority=authority.get_extra_info("sockname")[1],
            )
        )
        process = await asyncio.create_subprocess_exec(
            "unbound", "-d", "-c", str(configuration), env={"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
        )
        try:
            await _answers(f"127.0.0.1:{port}", str(zone.origin))
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()
            authority.close()


async def _answers(nameserver: str, zone: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            resolver = DnsResolver([nameserver], timeout_seconds=1, max_entries=0)
            answer = await resolver.ns(zone.rstrip("."))
            await resolver.close()
            if answer.found:
                return
            await asyncio.sleep(0.05)
