"""Patients for the doctor: an installation made of settings, a name server and perhaps a database, to be made ill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clawmail.base.settings import Api, Dns, Limits, Outbound, Server, Settings, Smtp
from clawmail.base.settings import Database as DatabaseSettings
from clawmail.core.doctor import examine as doctor
from clawmail.core.doctor.findings import Finding, Patient
from clawmail.net.resolver import DnsResolver
from clawmail.store.db import Database
from tests.support.dns_server import DnsServer

HOST = "mx.here.test"


def healthy_dns() -> DnsServer:
    """A name server that knows all that a healthy patient needs."""
    zone: dict[str, dict[str, Any]] = {
        HOST: {"A": ["127.0.0.1"]},
        "1.0.0.127.in-addr.arpa": {"PTR": [HOST]},
        "signed.test": {"NS": ["ns.signed.test"]},
        "big.test": {"MX": ["10 mx.big.test"]},
        "mx.big.test": {"A": ["127.0.0.1"]},
    }
    return DnsServer(zone, authenticated=True)


class Ward:
    """Makes patients, and looks at them."""

    def __init__(self, dns: DnsServer, data_dir: Path) -> None:
        self.dns, self.data_dir = dns, data_dir
        self.sections: dict[str, Any] = {
            "server": {"hostname": HOST, "app_domain": "here.test", "public_ip": "127.0.0.1"},
            "smtp": {},
            "outbound": {},
            "api": {},
            "limits": {},
            "database": {},
        }
        self.db: Database | None = None
        self.inbound_port = 1
        self.dns_seconds = 2.0

    async def examine(self, *domains: str) -> list[Finding]:
        of = self.sections
        nameservers = [self.dns.nameserver]
        settings = Settings(
            server=Server(data_dir=str(self.data_dir), **of["server"]),
            smtp=Smtp(**of["smtp"]),
            outbound=Outbound(**of["outbound"]),
            api=Api(**of["api"]),
            limits=Limits(**of["limits"]),
            database=DatabaseSettings(**of["database"]),
            dns=Dns(nameservers=nameservers),
        )
        resolver = DnsResolver(nameservers, timeout_seconds=self.dns_seconds, max_entries=1)
        patient = Patient(
            settings,
            resolver,
            self.db,
            "" if self.db else "nobody answers",
            providers=("big.test", "gone.test"),
            signed_name="signed.test",
            inbound_port=self.inbound_port,
        )
        try:
            return await doctor.examine(patient, domains)
        finally:
            await resolver.close()

    async def one(self, check: str, *domains: str) -> Finding:
        """The only finding of a check."""
        (found,) = [finding for finding in await self.examine(*domains) if finding.check == check]
        return found
