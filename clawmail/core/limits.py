"""How often a caller may: the API's rate limits, counted with the ``limits`` library in memory or in Redis/Valkey.

Windows are fixed: the first request opens one, and the count starts anew when it ends. Counts in memory are added up
with those of other processes by way of PostgreSQL (``house_limits``); a ``storage_url`` makes them share each count at
once. When that store does not answer, this process counts in memory until it does: a limiter must not take the mail
down with it.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import RedisStorage, Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from clawmail.base.errors import RateLimited
from clawmail.base.log import logger
from clawmail.base.settings import Limits as LimitSettings
from clawmail.model.tenancy import Principal

#: strangers: requests on inbox routes before their key is judged; the others are categories of routes.
LimitName = Literal["registration", "domain", "strangers", "read", "send"]

#: callers that are remembered in memory; the one whose window is oldest is forgotten first.
MAX_CALLERS = 100_000
#: seconds this process counts for itself after the shared store failed.
FALLBACK_SECONDS = 10.0
#: longest wait for the shared store.
SHARED_SECONDS = 1.0
#: bits of an IPv6 address that are one subscriber's (RFC 6177 section 2).
IPV6_SUBSCRIBER_BITS = 64

WORDS: dict[LimitName, str] = {
    "registration": "domain registration requests",
    "domain": "requests",
    "strangers": "authentication attempts",
    "read": "inbox requests",
    "send": "send requests",
}

log = logger("limits")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one limit says of one request."""

    name: LimitName
    #: requests in a window.
    limit: int
    #: requests left in this window.
    remaining: int
    #: whole seconds until the window ends, at least 1.
    reset_seconds: int
    #: length of a window in seconds.
    window_seconds: int
    exceeded: bool

    def refusal(self) -> RateLimited:
        """The error for a request over the limit."""
        return RateLimited(f"Too many {WORDS[self.name]}, try again later", retry_after=self.reset_seconds)


class BoundedMemory(Storage):
    """Counts in memory, for at most ``MAX_CALLERS`` callers and without a task or a lock: one loop, no waiting."""

    STORAGE_SCHEME = ["async+bounded"]  # noqa: RUF012  the library's own declaration

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: str) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        #: key → (count, end of its window on the wall clock), oldest window first.
        self._counts: OrderedDict[str, tuple[int, float]] = OrderedDict()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this storage may raise."""
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Counts ``amount`` more and returns the count of the window."""
        now = time.time()
        count, end = self._counts.get(key, (0, 0.0))
        if end <= now:
            self._counts.pop(key, None)
            count, end = 0, now + expiry
            if len(self._counts) >= MAX_CALLERS:
                self._counts.popitem(last=False)
        self._counts[key] = (count + amount, end)
        return count + amount

    async def get(self, key: str) -> int:
        """The count of the window."""
        count, end = self._counts.get(key, (0, 0.0))
        return count if end > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since 1970."""
        return self._counts.get(key, (0, time.time()))[1]

    async def check(self) -> bool:
        """Memory is always there."""
        return True

    async def reset(self) -> int | None:
        """Forgets everything and says how many callers that were."""
        forgotten = len(self._counts)
        self._counts.clear()
        return forgotten

    async def clear(self, key: str) -> None:
        """Forgets one caller."""
        self._counts.pop(key, None)


class MemoryLimiter(FixedWindowRateLimiter):
    """Counts of this process alone."""

    async def close(self) -> None:
        """Nobody else wants to know them."""


class Limits:
    """All limits of the API."""

    def __init__(self, settings: LimitSettings, memory: MemoryLimiter | None = None) -> None:
        """``memory``: counts where no ``storage_url`` is set or its store is away; None: this process for itself."""
        self.enabled = settings.enabled
        self._by_inbox = settings.inbox_scope == "email"
        self._items: dict[LimitName, RateLimitItem] = {
            "registration": _per_hour(settings.domain_registration_per_hour, "registration"),
            "domain": RateLimitItemPerMinute(settings.domain_routes_per_minute, namespace="clawmail/domain"),
            "strangers": _per_hour(settings.unauthenticated_per_hour, "strangers"),
            "read": _per_hour(settings.inbox_read_per_hour, "read"),
            "send": _per_hour(settings.inbox_send_per_hour, "send"),
        }
        self._memory = memory or MemoryLimiter(BoundedMemory())
        self._storage = _shared_storage(settings.storage_url) if settings.storage_url else None
        self._shared = FixedWindowRateLimiter(self._storage) if self._storage is not None else None
        self._shared_again_at = 0.0

    async def close(self) -> None:
        """Tells the other processes what they do not know yet, and closes the connections to the shared store."""
        await self._memory.close()
        if self._storage is not None:
            bridge: Any = self._storage.bridge  # of the redis-py kind, which the annotation does not say
            await bridge.get_connection().aclose()

    def caller(self, name: LimitName, client_ip: str, principal: Principal | None) -> str:
        """Whom a request is counted for: the client's address, or the inbox where ``inbox_scope`` says so."""
        if self._by_inbox and name in ("read", "send") and principal is not None and principal.address is not None:
            return principal.address.lower()
        return _subscriber(client_ip)

    async def hit(self, name: LimitName, caller: str) -> Allowance:
        """Counts one request of ``caller``; ``exceeded`` says whether it was one too many."""
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            try:
                return await self._hit(self._shared, name, caller)
            except Exception as error:  # noqa: BLE001  every client library of the store has its own family of errors
                self._shared_again_at = time.monotonic() + FALLBACK_SECONDS
                log.warning("limits store failed; counting in memory", problem=str(error) or type(error).__name__)
        return await self._hit(self._memory, name, caller)

    async def count_send(self, client_ip: str, principal: Principal) -> None:
        """Counts a message that a mail client hands in like one sent over the API. Raises RateLimited."""
        if not self.enabled:
            return
        allowance = await self.hit("send", self.caller("send", client_ip, principal))
        if allowance.exceeded:
            raise allowance.refusal()

    async def _hit(self, limiter: FixedWindowRateLimiter, name: LimitName, caller: str) -> Allowance:
        item = self._items[name]
        allowed = await limiter.hit(item, caller)
        ends_at, remaining = await limiter.get_window_stats(item, caller)
        reset = max(1, math.ceil(ends_at - time.time()))
        return Allowance(name, item.amount, remaining, reset, item.get_expiry(), exceeded=not allowed)


def _per_hour(amount: int, name: LimitName) -> RateLimitItem:
    return RateLimitItemPerHour(amount, namespace=f"clawmail/{name}")


def _shared_storage(url: str) -> RedisStorage:
    """Redis or Valkey by URL: ``redis://host:6379/0``, ``valkey://…``, with TLS ``rediss://…``."""
    try:
        storage = storage_from_string(
            f"async+{url}",
            implementation="redispy",
            socket_timeout=SHARED_SECONDS,
            socket_connect_timeout=SHARED_SECONDS,
        )
    except ConfigurationError as error:
        raise ValueError(f"limits.storage_url: {error} (pip install 'clawmail[redis]')") from None
    if not isinstance(storage, RedisStorage):
        raise ValueError(f"limits.storage_url: {url.partition(':')[0]} is not redis:// or valkey://")
    return storage


def _subscriber(client_ip: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one, of which a single caller has 2^64 to choose from."""
    if ":" not in client_ip:
        return client_ip
    address = ip_address(client_ip.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return f"{IPv6Address(int(address) >> IPV6_SUBSCRIBER_BITS << IPV6_SUBSCRIBER_BITS)}/{IPV6_SUBSCRIBER_BITS}"
    return str(getattr(address, "ipv4_mapped", None) or address)
