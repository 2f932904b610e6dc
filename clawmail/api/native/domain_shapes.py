"""What the calls about domains take and answer, as types. Field names and forms are the contract's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from clawmail.api.native.times import seconds_or_none, whole_seconds
from clawmail.core.dns_setup import VERIFICATION_LABEL, Host, RecordCheck, RecordState, RecordType, dkim_name
from clawmail.core.domains import Registered, Verified
from clawmail.model.tenancy import DkimKey, Domain


def _about(text: str) -> Meta:
    return Meta(description=text)


class RegisterDomain(Struct, frozen=True):
    """Asks for a domain."""

    domain: Annotated[str, _about("Domain name, for example example.com"), Meta(min_length=1, max_length=1000)]


class AddressRecord(Struct, frozen=True):
    """An A record."""

    name: str
    value: str


class RegisteredDomain(Struct, frozen=True):
    """A pending domain: its token, shown once, and the records that prove it."""

    verification_token: Annotated[str, _about("The domain's token: keep it, it is not shown again")]
    dns_txt_record: Annotated[str, _about("Name of the TXT record")]
    dns_txt_value: Annotated[str, _about("What the TXT record has to say")]
    mx_record: Annotated[str, _about("Host that the domain's MX record has to name, priority 10")]
    a_record: AddressRecord

    @classmethod
    def of(cls, registered: Registered, host: Host) -> RegisteredDomain:
        """The shape of a registration."""
        name = registered.domain.name
        mx = host.name_for(name)
        return cls(
            registered.token,
            f"{VERIFICATION_LABEL}.{name}",
            registered.domain.verification_value,
            mx,
            AddressRecord(mx, str(host.address)),
        )


class VerifyDomain(Struct, frozen=True):
    """Asks to look at the DNS."""

    verification_token: Annotated[str, _about("The token of the registration"), Meta(min_length=1, max_length=1000)]


class DkimRecord(Struct, frozen=True):
    """A signing key's record."""

    selector: str
    dns_record_name: str
    dns_record_value: str

    @classmethod
    def of(cls, key: DkimKey, domain_name: str) -> DkimRecord:
        """The shape of a signing key."""
        return cls(key.selector, dkim_name(key.selector, domain_name), key.public_record)


class VerifiedDomain(Struct, frozen=True):
    """A verified domain and the DKIM record to publish next."""

    domain: str
    verified: bool
    dkim: DkimRecord
    message: str

    @classmethod
    def of(cls, verified: Verified) -> VerifiedDomain:
        """The shape of a verification."""
        record = DkimRecord.of(verified.dkim, verified.domain.name)
        message = (
            f"Domain verified. Publish the TXT record {record.dns_record_name}, so that receivers can check its mail."
        )
        return cls(verified.domain.name, True, record, message)


class DomainInfo(Struct, frozen=True):
    """A domain of the caller."""

    domain: str
    verified: bool
    trusted: Annotated[bool, _about("Verified by the operator's word, without DNS")]
    created_at: datetime
    verified_at: datetime | None
    pending_until: Annotated[datetime | None, _about("When an unverified registration is forgotten")]

    @classmethod
    def of(cls, domain: Domain) -> DomainInfo:
        """The shape of a domain."""
        return cls(
            domain.name,
            domain.verified,
            domain.trusted,
            whole_seconds(domain.created_at),
            seconds_or_none(domain.verified_at),
            seconds_or_none(domain.pending_until),
        )


class DomainList(Struct, frozen=True):
    """The domains that the caller's token opens."""

    domains: list[DomainInfo]


class DnsRecord(Struct, frozen=True):
    """A record to publish and its live state."""

    type: RecordType
    name: str
    value: str
    state: RecordState
    found: Annotated[list[str], _about("What is published at that name now")]
    fix: Annotated[str, _about("What to do; empty when there is nothing to do")]
    priority: Annotated[int, _about("Of an MX record")] | UnsetType = UNSET

    @classmethod
    def of(cls, check: RecordCheck) -> DnsRecord:
        """The shape of a checked record."""
        priority = UNSET if check.priority is None else check.priority
        return cls(check.type, check.name, check.value, check.state, list(check.found), check.fix, priority)


class DnsRecords(Struct, frozen=True):
    """All records of a domain."""

    records: list[DnsRecord]
