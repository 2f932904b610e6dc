"""DNS as the protocols see it: an interface, and answers as values.

SPF, DKIM, DMARC, MX look-up, MTA-STS and DANE all ask through ``Resolver``. The real one (``net.resolver``) speaks to
name servers and caches; tests hand in a scripted one. A failed look-up is an answer, not an exception, because every
protocol here has its own rule for each kind of failure (RFC 7208 section 4.4, RFC 6376 section 6.1.2, RFC 9989).
"""

from __future__ import annotations

import asyncio
import enum
import time
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Status(enum.Enum):
    """How a question ended."""

    #: at least one record of the type asked for.
    FOUND = "found"
    #: the name exists, without records of that type (NOERROR, no data). A "void lookup" in SPF.
    NO_DATA = "no data"
    #: the name does not exist (NXDOMAIN). A "void lookup" in SPF.
    NO_NAME = "no such name"
    #: SERVFAIL, refused, timeout, budget used up, or a malformed reply: nobody knows.
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Answer(Generic[T_co]):
    """What a question brought back."""

    status: Status
    #: in the order the server gave them; empty unless ``status`` is FOUND.
    records: tuple[T_co, ...] = ()
    #: DNSSEC: the AD bit of a resolver we trust (RFC 4035 section 3.2.3).
    authenticated: bool = False
    #: seconds the answer stays valid.
    ttl: float = 0.0
    #: for FAILURE, what went wrong, in words for people.
    problem: str = ""
    #: the name the records were found at, after CNAMEs, lower case without the last dot.
    canonical_name: str = ""

    @property
    def found(self) -> bool:
        """There is at least one record."""
        return self.status is Status.FOUND

    @property
    def void(self) -> bool:
        """The look-up worked and brought nothing (RFC 7208 section 4.6.4)."""
        return self.status is Status.NO_DATA or self.status is Status.NO_NAME

    @property
    def failed(self) -> bool:
        """Nobody knows; the same question may be answered later."""
        return self.status is Status.FAILURE


class MX(NamedTuple):
    """One mail exchanger. ``exchange`` is "" for the root name of a null MX (RFC 7505)."""

    preference: int
    exchange: str


class TLSA(NamedTuple):
    """One DANE association (RFC 6698 section 2.1)."""

    usage: int
    selector: int
    matching_type: int
    data: bytes


Address = IPv4Address | IPv6Address


class Resolver(Protocol):
    """Asks the DNS. Names are text, absolute, with or without the last dot; IDNs already as A-labels.

    No method raises for what the network or a stranger's zone does. A name that cannot be a DNS name (a label over 63
    octets, empty label, over 255 in all) is answered NO_NAME without a question.
    """

    async def txt(self, name: str) -> Answer[bytes]:
        """TXT records, the strings of each joined without a space (RFC 7208 section 3.3)."""
        ...

    async def a(self, name: str) -> Answer[IPv4Address]:
        """IPv4 addresses."""
        ...

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """IPv6 addresses."""
        ...

    async def mx(self, name: str) -> Answer[MX]:
        """Mail exchangers, lowest preference first."""
        ...

    async def ptr(self, address: Address) -> Answer[str]:
        """Names of an address, lower case without the last dot."""
        ...

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """DANE associations."""
        ...

    async def ns(self, name: str) -> Answer[str]:
        """Name servers of a zone, lower case without the last dot."""
        ...


#: a resolver ends every question by itself within so many seconds; only nearer to the deadline is it cut off here.
LONGEST_QUESTION_SECONDS = 10.0


class BudgetedResolver:
    """A resolver that stops asking after so many questions or so much time, and answers FAILURE from then on.

    One is made per message, so that no zone a stranger controls can make judging his mail cost more than that.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        queries: int = 50,
        seconds: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._queries_left = queries
        self._clock = clock
        self._deadline = clock() + seconds

    async def _ask(self, question: Callable[[], Coroutine[Any, Any, Answer[T_co]]]) -> Answer[T_co]:
        if self._queries_left <= 0:
            return Answer(Status.FAILURE, problem="the DNS query budget of this message is used up")
        seconds_left = self._deadline - self._clock()
        if seconds_left <= 0:
            return Answer(Status.FAILURE, problem="the DNS time budget of this message is used up")
        self._queries_left -= 1
        asking = question()
        if seconds_left > LONGEST_QUESTION_SECONDS:
            return await asking
        # Most answers are remembered and come without a wait; a timer costs more than they do.
        try:
            waited_for = asking.send(None)
        except StopIteration as answered:
            answer: Answer[T_co] = answered.value
            return answer
        try:
            async with asyncio.timeout(seconds_left):
                return await _going_on(asking, waited_for)
        except TimeoutError:
            return Answer(Status.FAILURE, problem="the DNS time budget of this message is used up")

    async def txt(self, name: str) -> Answer[bytes]:
        """See ``Resolver.txt``."""
        return await self._ask(lambda: self._resolver.txt(name))

    async def a(self, name: str) -> Answer[IPv4Address]:
        """See ``Resolver.a``."""
        return await self._ask(lambda: self._resolver.a(name))

    async def aaaa(self, name: str) -> Answer[IPv6Address]:
        """See ``Resolver.aaaa``."""
        return await self._ask(lambda: self._resolver.aaaa(name))

    async def mx(self, name: str) -> Answer[MX]:
        """See ``Resolver.mx``."""
        return await self._ask(lambda: self._resolver.mx(name))

    async def ptr(self, address: Address) -> Answer[str]:
        """See ``Resolver.ptr``."""
        return await self._ask(lambda: self._resolver.ptr(address))

    async def tlsa(self, name: str) -> Answer[TLSA]:
        """See ``Resolver.tlsa``."""
        return await self._ask(lambda: self._resolver.tlsa(name))

    async def ns(self, name: str) -> Answer[str]:
        """See ``Resolver.ns``."""
        return await self._ask(lambda: self._resolver.ns(name))


@types.coroutine
def _going_on(begun: Coroutine[Any, Any, T], waited_for: object) -> Generator[object, Any, T]:
    """What is left of a coroutine that was begun by hand and now waits for ``waited_for``."""
    while True:
        step: Callable[[Any], object] = begun.send
        try:
            brought = yield waited_for
        except BaseException as thrown:  # noqa: BLE001  a cancellation is the coroutine's to deal with, as in await
            step, brought = begun.throw, thrown
        try:
            waited_for = step(brought)
        except StopIteration as done:
            result: T = done.value
            return result
