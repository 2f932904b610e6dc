"""The machine as the world sees it: its disk and keys, its names, its ports.

Receivers judge a host before they read a word: the address has a name, the name has the address (RFC 8601 section 3),
and the server calls itself by it (RFC 5321 section 4.1.1.1). Port 25 has to be open both ways, and many providers of
virtual machines close the way out until they are asked.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from ipaddress import IPv6Address
from pathlib import Path

from clawmail.base.secrets import load_keyring
from clawmail.core.doctor.findings import Finding, Patient, fail, ok, warn
from clawmail.net.probe import Greeting, greeting
from clawmail.protocol.domain_name import labels_of
from clawmail.protocol.iprev import check_iprev

#: seconds for one connection, and for each provider's MX.
CONNECT_SECONDS = 6.0
#: shares of a disk, or of its inodes, that have to be free.
LITTLE_LEFT, NOTHING_LEFT = 0.10, 0.03
#: bytes that have to be free, whatever share that is.
LITTLE_BYTES = 1024**3
#: tops of names that a network at home may well resolve, and the world does not (RFC 6761, RFC 6762).
PRIVATE_TOPS = frozenset({"localhost", "local", "localdomain", "internal", "lan", "home"})


async def disk(patient: Patient) -> list[Finding]:
    """Space and inodes of the data directory, which the embedded database shares."""
    directory = Path(patient.settings.server.data_dir)
    return await room("disk", directory, "Create server.data_dir and give it to the server.")


async def room(check: str, directory: Path, missing: str) -> list[Finding]:
    """Space and inodes of the disk that ``directory`` is on; ``missing``: what to do if it is not there."""
    try:
        usage = await asyncio.to_thread(shutil.disk_usage, directory)
        inodes = await asyncio.to_thread(os.statvfs, directory)
    except OSError as error:
        return [fail(check, f"{directory}: {error.strerror}", missing)]
    free = f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} GiB are free in {directory}"
    more = "Make room, or move it to a larger disk: on a full one mail is refused with 452."
    findings = []
    if usage.free < NOTHING_LEFT * usage.total:
        findings.append(fail(check, free, more))
    elif usage.free < LITTLE_LEFT * usage.total or usage.free < LITTLE_BYTES:
        findings.append(warn(check, free, more))
    else:
        findings.append(ok(check, free))
    # File systems without a fixed number of inodes say 0.
    if inodes.f_files and inodes.f_favail < LITTLE_LEFT * inodes.f_files:
        share = 100 * inodes.f_favail / inodes.f_files
        findings.append(warn(check, f"{share:.0f} % of the inodes of {directory} are left", "Remove small files."))
    return findings


async def secret_key(patient: Patient) -> list[Finding]:
    """The key that opens DKIM keys: there, well formed, and nobody else's to read."""
    settings = patient.settings.server
    path = Path(settings.data_dir) / "secret.key"
    if not settings.secret_key and not await asyncio.to_thread(path.exists):
        return [warn("secret_key", f"{path} is not there yet", "Start the server once: it makes the key.")]
    try:
        await asyncio.to_thread(load_keyring, settings.secret_key, Path(settings.data_dir))
    except (ValueError, OSError) as error:
        return [fail("secret_key", f"the secret key cannot be read: {error}", "Restore it from your copy.")]
    if settings.secret_key:
        return [ok("secret_key", "the secret key is set")]
    mode = (await asyncio.to_thread(path.stat)).st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return [warn("secret_key", f"others than its owner may read {path}", f"chmod 600 {path}")]
    return [ok("secret_key", f"{path} is there; keep a copy of it elsewhere")]


async def certificate(patient: Patient) -> list[Finding]:
    """The certificate that STARTTLS shows."""
    from clawmail.core.doctor.certificate import examine_certificate

    return await asyncio.to_thread(examine_certificate, patient.settings)


async def resolver(patient: Patient) -> list[Finding]:
    """A name server answers, and checks signatures (RFC 4035 section 3.2.3)."""
    answer = await patient.resolver.ns(patient.signed_name)
    if answer.failed:
        return [fail("resolver", f"no name server answers: {answer.problem}", "Set dns.nameservers to one that does.")]
    if not answer.found:
        text = f"name servers answer, but know nothing of {patient.signed_name}: this is not the public DNS"
        return [warn("resolver", text, "Set dns.nameservers to servers that resolve public names.")]
    if not answer.authenticated:
        return [
            warn(
                "resolver",
                f"name servers answer, but do not validate DNSSEC ({patient.signed_name} is signed)",
                "Run a validating resolver on this machine (apt install unbound) and set dns.nameservers to 127.0.0.1;"
                " without one DANE is not used.",
            )
        ]
    return [ok("resolver", "name servers answer and validate DNSSEC")]


async def hostname(patient: Patient) -> list[Finding]:
    """A full name, which leads to our public address."""
    name, wanted = patient.settings.hostname.lower(), patient.public_ip
    labels = labels_of(name)
    if not labels or len(labels) < 2 or name.rpartition(".")[2] in PRIVATE_TOPS:
        return [
            fail("hostname", f"{name} is no name of the public DNS", "Set server.hostname to a full name of yours.")
        ]
    four, six = await asyncio.gather(patient.resolver.a(name), patient.resolver.aaaa(name))
    found = [str(record) for record in (*four.records, *six.records)]
    kind = "AAAA" if isinstance(wanted, IPv6Address) else "A"
    if str(wanted) in found:
        return [ok("hostname", f"{name} leads to {', '.join(found)}")]
    if four.failed or six.failed:
        problem = four.problem or six.problem
        return [fail("hostname", f"{name} cannot be looked up: {problem}", "Repair the resolver, then look again.")]
    leads = f"leads to {', '.join(found)}, not to {wanted}" if found else "has no address"
    return [fail("hostname", f"{name} {leads}", f"Publish: {name} {kind} {wanted} (or correct server.public_ip).")]


async def reverse_name(patient: Patient) -> list[Finding]:
    """Forward-confirmed reverse DNS of each address that mail leaves from."""
    addresses = dict.fromkeys(filter(None, (patient.settings.server.public_ip, patient.settings.outbound.source_ip)))
    return [await _reverse_name(patient, address) for address in addresses]


async def _reverse_name(patient: Patient, address: str) -> Finding:
    name, wanted = patient.settings.hostname.lower(), f"the reverse name (PTR) of {address}"
    found = await check_iprev(patient.resolver, address)
    order = f"Have {wanted} set to {name}, where you rent the address."
    if found.result == "pass" and found.name == name:
        return ok("reverse_name", f"{wanted} is {name}, and leads back")
    if found.result == "pass":
        return warn("reverse_name", f"{wanted} is {found.name}, this server is {name}", order)
    if found.result == "temperror":
        return warn("reverse_name", f"{wanted} cannot be looked up: {found.problem}", "Look again in a while.")
    return fail("reverse_name", f"{found.problem}; large providers refuse mail from it", order)


async def port_25_out(patient: Patient) -> list[Finding]:
    """Whether MX hosts of large providers can be reached: if none can, somebody on the way closes the port."""
    port = patient.settings.outbound.port
    tried = await asyncio.gather(*(_provider(patient, domain, port) for domain in patient.providers))
    reached = [domain for domain, answer in tried if answer is not None and answer.text.startswith("220")]
    if reached:
        return [ok("port_25_out", f"the mail servers of {', '.join(reached)} answer on port {port}")]
    asked = [f"{domain}: {answer.problem or answer.text}" for domain, answer in tried if answer is not None]
    if not asked:
        return [warn("port_25_out", "no provider's mail server was found in the DNS", "Repair the resolver first.")]
    return [
        fail(
            "port_25_out",
            f"port {port} seems to be closed on the way out ({'; '.join(asked)})",
            "Ask your provider to open outgoing port 25 (many keep it closed until then), and check your firewall.",
        )
    ]


async def _provider(patient: Patient, domain: str, port: int) -> tuple[str, Greeting | None]:
    """The greeting of a provider's first MX; None when the DNS shows none."""
    hosts = await patient.resolver.mx(domain)
    if not hosts.records:
        return domain, None
    addresses = await patient.resolver.a(hosts.records[0].exchange)
    if not addresses.records:
        return domain, None
    source_ip = patient.settings.outbound.source_ip
    return domain, await greeting(addresses.records[0], port, seconds=CONNECT_SECONDS, source_ip=source_ip)


async def port_25_in(patient: Patient) -> list[Finding]:
    """Whether our own door answers at our public address. From inside: a firewall further out cannot be seen."""
    address, port, name = patient.public_ip, patient.inbound_port, patient.settings.hostname
    heard = await greeting(address, port, seconds=CONNECT_SECONDS)
    if heard.problem:
        return [
            fail(
                "port_25_in",
                f"nobody answers at server.public_ip: {heard.problem}",
                f"Start the server with smtp.listen on port {port}, and open port {port} in the firewall.",
            )
        ]
    words = heard.text.replace("-", " ", 1).split()
    if words[0] != "220" or len(words) < 2 or words[1].lower() != name.lower():
        said = heard.text[:200]
        return [
            fail("port_25_in", f"another server answers at {address}: {said}", f"Stop it, or give {name} its port.")
        ]
    findings = [ok("port_25_in", f"{name} answers at {address} port {port}, as far as can be seen from inside")]
    if not address.is_global:
        public = "Set server.public_ip to the address that the world sees."
        findings.append(
            warn("port_25_in", f"server.public_ip {address} is not an address of the public internet", public)
        )
    return findings
