"""The doctor: everything that keeps mail from flowing, looked at from the inside, each with what to do about it.

The checks run at the same time, each with a time limit of its own, so that a name server that is silent or a port that
is filtered costs seconds and not minutes. What cannot be looked at is said to be so; nothing is taken for granted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from clawmail.base.errors import ClawmailError
from clawmail.core.doctor import domains as doctor_domains
from clawmail.core.doctor import host as doctor_host
from clawmail.core.doctor import store as doctor_store
from clawmail.core.doctor.findings import Finding, Patient, fail, ok, warn

#: seconds for each check; the whole takes little longer, because they run at the same time.
CHECK_SECONDS = 15.0

Check = Callable[[Patient], Awaitable[list[Finding]]]


async def examine(patient: Patient, domains: Sequence[str] = ()) -> list[Finding]:
    """Every finding, in the order of the checks; ``domains``: those to look at, none given: all verified ones."""
    checks: list[tuple[str, Check]] = [
        ("configuration", _configuration),
        ("disk", doctor_host.disk),
        ("secret_key", doctor_host.secret_key),
        ("certificate", doctor_host.certificate),
        ("resolver", doctor_host.resolver),
        ("hostname", doctor_host.hostname),
        ("reverse_name", doctor_host.reverse_name),
        ("port_25_out", doctor_host.port_25_out),
        ("port_25_in", doctor_host.port_25_in),
    ]
    if patient.db is None:
        findings = [fail("database", patient.db_problem, "Start PostgreSQL, or correct database.url.")]
        return [*await _in_parallel(patient, checks), *findings]
    checks += [
        ("database", doctor_store.database),
        ("database_disk", doctor_store.database_disk),
        ("clock", doctor_store.clock),
        ("dkim_keys", doctor_store.dkim_keys),
        ("webhook_secrets", doctor_store.webhook_secrets),
        ("queue", doctor_store.queue),
        ("destinations", doctor_store.destinations),
        ("leases", doctor_store.leases),
        ("domains", lambda who: doctor_domains.domains(who, domains)),
    ]
    return await _in_parallel(patient, checks)


async def _in_parallel(patient: Patient, checks: Sequence[tuple[str, Check]]) -> list[Finding]:
    found = await asyncio.gather(*(_bounded(name, check, patient) for name, check in checks))
    return [finding for findings in found for finding in findings]


async def _bounded(name: str, check: Check, patient: Patient) -> list[Finding]:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check(patient)
    except TimeoutError:
        return [warn(name, f"this could not be looked at within {CHECK_SECONDS:.0f} s", "Look again in a while.")]
    except ClawmailError as error:
        return [fail(name, f"this could not be looked at: {error.message}", "See what is said of the database.")]


async def _configuration(patient: Patient) -> list[Finding]:
    """What is allowed and still rarely meant."""
    settings, findings = patient.settings, []
    if settings.server.app_domain == "localhost" and not settings.server.hostname:
        findings.append(
            fail(
                "configuration",
                "server.hostname and server.app_domain are not set: this server calls itself mx.localhost",
                "Set server.hostname to the name that the world knows this machine by.",
            )
        )
    exposed = [address for address in settings.api.listen if not address.startswith(("127.", "[::1]", "localhost"))]
    if exposed and not settings.api.domain_register_token:
        findings.append(
            warn(
                "configuration",
                f"anybody who reaches the API at {', '.join(exposed)} may register a domain",
                "Set api.domain_register_token, or let the API listen on 127.0.0.1 behind a reverse proxy.",
            )
        )
    if not settings.limits.enabled:
        findings.append(
            warn("configuration", "limits.enabled is false: nobody is slowed down", "Set limits.enabled to true.")
        )
    return findings or [ok("configuration", f"this server is {settings.hostname}")]
