"""MTA-STS: a domain says, over HTTPS, which hosts take its mail and that they must prove it in TLS (RFC 8461).

A TXT record at ``_mta-sts`` tells that there is a policy, and by its id when it changes. The policy itself is a small
text file. Fetching and remembering it is the caller's business; here it is read, and hosts are held against it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

#: where a policy is served (section 3.2).
POLICY_URL = "https://mta-sts.{domain}/.well-known/mta-sts.txt"
#: octets of a policy file, and of its lines, that are read (section 3.3 suggests 64 kilobytes).
MAX_POLICY_OCTETS = 64 * 1024
MAX_MX = 200
#: longest time a policy is remembered, in seconds (section 3.2: max_age is at most 31,557,600).
MAX_AGE_SECONDS = 31_557_600

Mode = Literal["enforce", "testing", "none"]

# sts-text-record = sts-version 1*(sts-field-delim sts-field) [sts-field-delim]        (section 3.1)
_RECORD = re.compile(r"v=STSv1[ \t]*;(.*)", re.DOTALL)
_ID = re.compile(r"(?:^|;)[ \t]*id[ \t]*=[ \t]*([A-Za-z0-9]{1,32})[ \t]*(?:;|$)")
_PATTERN = re.compile(r"(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """A policy that was read."""

    mode: Mode
    #: lower-case host names; "*.example.org" stands for one more label.
    mx: tuple[str, ...]
    #: seconds it may be remembered.
    max_age: int

    def allows(self, host: str) -> bool:
        """Whether ``host`` is one of the domain's MX hosts (section 4.1)."""
        host = host.lower().rstrip(".")
        parent = "*." + host.partition(".")[2]
        return host in self.mx or parent in self.mx


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why a policy file is none."""

    problem: str


def policy_id(records: Sequence[bytes]) -> str | None:
    """The id of the policy that the TXT records at ``_mta-sts`` announce; None if they announce none (section 3.1).

    Records that do not start with the version are other people's; two that do are as good as none.
    """
    texts = [record.decode("ascii", "replace") for record in records]
    ours = [found for text in texts if (found := _RECORD.match(text)) is not None]
    if len(ours) != 1:
        return None
    identifier = _ID.search(ours[0][1])
    return identifier[1] if identifier else None


def read_policy(octets: bytes) -> StsPolicy | Unreadable:
    """A policy file (section 3.2): "key: value" lines, in any order, unknown keys ignored, the first of each counts."""
    if len(octets) > MAX_POLICY_OCTETS:
        return Unreadable("the policy is too large")
    values: dict[str, str] = {}
    mx: list[str] = []
    for line in octets.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"):
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not colon:
            continue
        if key == "mx" and len(mx) < MAX_MX:
            mx.append(value.lower().rstrip("."))
        values.setdefault(key, value)
    return _policy(values, tuple(mx))


def _policy(values: dict[str, str], mx: tuple[str, ...]) -> StsPolicy | Unreadable:
    if values.get("version") != "STSv1":
        return Unreadable("the policy does not say version: STSv1")
    mode = values.get("mode")
    if mode not in ("enforce", "testing", "none"):
        return Unreadable("the policy has no mode that is known")
    age = values.get("max_age", "")
    if not (age.isascii() and age.isdigit() and len(age) <= 10):
        return Unreadable("the policy has no max_age")
    if mode != "none" and not mx:
        return Unreadable("the policy names no mx")
    if any(not _PATTERN.fullmatch(pattern) for pattern in mx):
        return Unreadable("the policy names an mx that is no host name")
    kept: Mode = "enforce" if mode == "enforce" else "testing" if mode == "testing" else "none"
    return StsPolicy(kept, mx, min(int(age), MAX_AGE_SECONDS))
