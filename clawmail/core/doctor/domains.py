"""The domains: their six records as the DNS shows them now, and what a linter thinks of their policies."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from clawmail.core import dns_setup
from clawmail.core.dns_setup import Host, RecordCheck
from clawmail.core.doctor.findings import Finding, Patient, fail, ok, warn
from clawmail.model.tenancy import Domain
from clawmail.net.lint import Lint, lint_dmarc, lint_spf
from clawmail.protocol.address import normalise_domain
from clawmail.store import accounts

#: domains looked at together.
AT_A_TIME = 10
#: seconds from the start of the check after which no further domain is begun, and for the records of one.
ENOUGH_SECONDS = 10.0
DOMAIN_SECONDS = 12.0
#: what the linter says of the policy that everybody begins with, and what to do about it.
NOT_ENFORCED = "tag value of none"
TIGHTEN = "It is right to begin with. When your own mail has passed for some days, make it quarantine, then reject."


async def domains(patient: Patient, names: Sequence[str]) -> list[Finding]:
    """The records of ``names``, or of every verified domain."""
    async with patient.store.connection() as conn:
        known = await accounts.domains(conn, datetime.now(UTC))
    wanted = {normalise_domain(name) or name for name in names}
    chosen = [domain for domain in known if (domain.name in wanted if wanted else domain.verified)]
    strangers = sorted(wanted - {domain.name for domain in chosen})
    findings = [
        fail("domain", "it is not registered here", f"clawmail domain add {name}", domain=name) for name in strangers
    ]
    if not known:
        findings.append(warn("domain", "there is no domain yet", "clawmail domain add NAME"))
    settings = patient.settings.server
    host = dns_setup.host_of(settings.mx_label, settings.public_ip)
    enough = asyncio.get_running_loop().time() + ENOUGH_SECONDS
    turns = asyncio.Semaphore(AT_A_TIME)

    async def look(domain: Domain) -> list[Finding]:
        async with turns:
            if asyncio.get_running_loop().time() > enough:
                return [
                    warn(
                        "domain", "there was no time left to look", f"clawmail doctor {domain.name}", domain=domain.name
                    )
                ]
            return await _domain(patient, domain, host)

    for found in await asyncio.gather(*(look(domain) for domain in chosen)):
        findings += found
    return findings


async def _domain(patient: Patient, domain: Domain, host: Host) -> list[Finding]:
    async with patient.store.connection() as conn:
        keys = [key for key in await accounts.dkim_keys(conn, domain.id) if key.state != "retired"]
    try:
        async with asyncio.timeout(DOMAIN_SECONDS):
            records, lints = await asyncio.gather(
                dns_setup.inspect(patient.resolver, domain, keys, host), _lints(patient, domain.name)
            )
    except TimeoutError:
        return [
            warn("domain", "its name servers are too slow", f"clawmail domain dns {domain.name}", domain=domain.name)
        ]
    return [*(_record(domain, record) for record in records), *lints]


def _record(domain: Domain, record: RecordCheck) -> Finding:
    kind = _purpose(domain, record)
    if record.state == "ok":
        return ok(kind, f"{record.type} {record.name} is right", domain=domain.name)
    if record.problem:
        text = f"{record.type} {record.name} cannot be looked up: {record.problem}"
        return warn(kind, text, "Look again in a while.", domain=domain.name)
    found = f" (found: {'; '.join(record.found)})" if record.found else ""
    text = f"{record.type} {record.name} is {record.state}{found}"
    # Nobody needs the token once it has been seen, and a trusted domain's mail may take another way in. DMARC is asked
    # for by large providers of those who send much.
    harmless = kind in ("verification", "dmarc") or (domain.trusted and kind in ("mx", "address"))
    return (warn if harmless else fail)(kind, text, record.fix, domain=domain.name)


def _purpose(domain: Domain, record: RecordCheck) -> str:
    """What a record is for: verification, mx, address, dkim, spf or dmarc."""
    if record.type == "MX":
        return "mx"
    if record.type in ("A", "AAAA"):
        return "address"
    if record.name == domain.name:
        return "spf"
    return {dns_setup.VERIFICATION_LABEL: "verification", "_dmarc": "dmarc"}.get(record.name.partition(".")[0], "dkim")


async def _lints(patient: Patient, name: str) -> list[Finding]:
    """What is unwise in the records that are there; whether they are there has been said already."""
    findings: list[Finding] = []
    has_spf = any(record.lower().startswith(b"v=spf1") for record in (await patient.resolver.txt(name)).records)
    has_dmarc = bool((await patient.resolver.txt(f"_dmarc.{name}")).records)
    nameservers = patient.settings.dns.nameservers
    if has_spf:
        findings += _remarks("spf", name, await lint_spf(name, nameservers))
    if has_dmarc:
        findings += _remarks("dmarc", name, await lint_dmarc(name, nameservers))
    return findings


def _remarks(kind: str, name: str, lint: Lint) -> list[Finding]:
    change = f"Change the {kind.upper()} record of {name}."
    said = [fail(kind, f"receivers cannot use the record: {lint.error}", change, domain=name)] if lint.error else []
    return said + [warn(kind, text, TIGHTEN if NOT_ENFORCED in text else change, domain=name) for text in lint.warnings]
