"""What the doctor looks at, and what he says."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from clawmail.base.settings import Settings
from clawmail.protocol.dns import Resolver
from clawmail.store.db import Database

Level = Literal["ok", "warn", "fail"]
#: domains of large providers, whose MX hosts answer everybody that may call out.
PROVIDERS = ("gmail.com", "outlook.com", "yahoo.com")
#: a name that is signed, and always there.
SIGNED_NAME = "ietf.org"
SMTP_PORT = 25


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    #: name of the check, snake_case.
    check: str
    level: Level
    #: what was found, in a sentence.
    text: str
    #: what to do; "" when there is nothing to do.
    fix: str = ""
    #: the domain it is about; "" for the server itself.
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """The installation that is looked at."""

    settings: Settings
    #: remembers nothing: people change their DNS and look again at once.
    resolver: Resolver
    #: None when there is none to talk to.
    db: Database | None
    #: why, then.
    db_problem: str = ""
    providers: tuple[str, ...] = PROVIDERS
    signed_name: str = SIGNED_NAME
    #: port at which the world looks for this server.
    inbound_port: int = SMTP_PORT

    @property
    def public_ip(self) -> IPv4Address | IPv6Address:
        """The address that the world looks for this server at."""
        return ip_address(self.settings.server.public_ip)

    @property
    def store(self) -> Database:
        """The database, for checks that run only when there is one."""
        assert self.db is not None
        return self.db


def ok(check: str, text: str, *, domain: str = "") -> Finding:
    """All is well."""
    return Finding(check, "ok", text, "", domain)


def warn(check: str, text: str, fix: str, *, domain: str = "") -> Finding:
    """Mail flows, but not as well as it could, or nobody knows."""
    return Finding(check, "warn", text, fix, domain)


def fail(check: str, text: str, fix: str, *, domain: str = "") -> Finding:
    """Mail does not flow, or will soon stop."""
    return Finding(check, "fail", text, fix, domain)
