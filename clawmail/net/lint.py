"""SPF and DMARC records looked over by a linter (checkdmarc), for whoever sets a domain up; never on the mail path.

Our own checks say what a record does; the linter also knows what is unwise: a record that needs too many look-ups
(RFC 7208 section 4.6.4), a policy whose reports go nowhere (RFC 7489 section 7.1). It asks the DNS in its own blocking
way, so it runs in a thread, with our name servers and a deadline that it cannot overrun by more than one question.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import dns.exception
import dns.nameserver
import dns.resolver

from clawmail.net.nameservers import find_nameservers

#: seconds for one record with all its questions, and for one question.
SECONDS = 8.0
QUESTION_SECONDS = 2.0
#: remarks on one record that are shown, and characters of each.
MAX_REMARKS = 10
MAX_CHARACTERS = 400


class Lint(NamedTuple):
    """What the linter says of a record."""

    #: why receivers cannot use it; "" if they can.
    error: str
    #: what is unwise.
    warnings: tuple[str, ...]


async def lint_spf(domain: str, nameservers: Sequence[str]) -> Lint:
    """Looks over the SPF record of a domain that has one."""
    return await asyncio.to_thread(_lint, "spf", domain, nameservers)


async def lint_dmarc(domain: str, nameservers: Sequence[str]) -> Lint:
    """Looks over the DMARC record of a domain that has one."""
    return await asyncio.to_thread(_lint, "dmarc", domain, nameservers)


class _Hurried(dns.resolver.Resolver):
    """Answers nothing more once its time is over."""

    def __init__(self, nameservers: Sequence[str]) -> None:
        super().__init__(configure=False)
        servers = [server.address for server in find_nameservers(nameservers)]
        self.nameservers = [dns.nameserver.Do53Nameserver(address[0], address[1]) for address in servers]
        self._deadline = time.monotonic() + SECONDS

    def resolve(self, *args: Any, **options: Any) -> dns.resolver.Answer:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise dns.exception.Timeout
        options["lifetime"] = min(QUESTION_SECONDS, left)
        return super().resolve(*args, **options)


def _lint(kind: str, domain: str, nameservers: Sequence[str]) -> Lint:
    # Imported when it is needed: it takes half a second, and no mail is waiting.
    import checkdmarc.dmarc
    import checkdmarc.spf
    import checkdmarc.utils

    # It remembers answers for half an hour; whoever has just changed a record wants to see it now.
    checkdmarc.utils.DNS_CACHE.clear()
    check = checkdmarc.spf.check_spf if kind == "spf" else checkdmarc.dmarc.check_dmarc
    try:
        found = check(domain, resolver=_Hurried(nameservers), timeout=QUESTION_SECONDS)
    except dns.exception.DNSException as error:
        return Lint("", (f"it could not be looked over: {str(error) or 'no answer in time'}",))
    except Exception as error:  # noqa: BLE001  a linter that stumbles over a stranger's record must not end the doctor
        return Lint("", (f"it could not be looked over: {type(error).__name__}: {error}"[:MAX_CHARACTERS],))
    error_text = str(found.get("error") or "")
    return Lint(error_text[:MAX_CHARACTERS], tuple(str(w)[:MAX_CHARACTERS] for w in found["warnings"][:MAX_REMARKS]))
