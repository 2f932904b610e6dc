"""pyspf and Clawmail's SPF asked the same question about the same scripted zone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import spf as pyspf

from clawmail.protocol.spf.check import check_spf
from tests.support.zones import SERVFAIL, ScriptedResolver, Zone


def _values(kind: str, records: Any) -> Iterator[Any]:
    for record in records:
        if kind == "TXT":
            yield (record.encode() if isinstance(record, str) else record,)
        elif kind == "MX":
            preference, host = record.split()
            yield int(preference), host.rstrip(".")
        elif kind in ("A", "AAAA"):
            yield ip_address(record)
        else:
            yield record.rstrip(".")


@contextlib.contextmanager
def pyspf_asks(zone: Zone) -> Iterator[None]:
    """pyspf, asking ``zone`` in place of the network."""

    def look_up(name: str, kind: str, strict: bool = True, timeout: float = 20) -> Iterator[Any]:
        here = zone.get(name.rstrip(".").lower(), {})
        if here.get(kind) == SERVFAIL:
            raise pyspf.TempError("the server failed")
        for found in (kind, "CNAME"):
            if found in here:
                for value in _values(found, here[found]):
                    yield (name, found), value
                return

    real, pyspf.DNSLookup = pyspf.DNSLookup, look_up
    try:
        yield
    finally:
        pyspf.DNSLookup = real


def judge_with_pyspf(zone: Zone, ip: str, mail_from: str, helo: str) -> tuple[str, str]:
    with pyspf_asks(zone):
        query = pyspf.query(i=ip, s=mail_from, h=helo, receiver="here.example", strict=True)
        query.set_default_explanation("")
        result, _code, explanation = query.check()
    return result, explanation if result == "fail" else ""


async def judge_with_ours(zone: Zone, ip: str, mail_from: str, helo: str) -> tuple[str, str]:
    result = await check_spf(
        ScriptedResolver(zone), ip=ip, mail_from=mail_from, helo=helo, receiver="here.example", now=0
    )
    return result.result, result.explanation
