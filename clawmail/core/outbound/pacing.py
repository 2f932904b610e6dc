"""How fast one site is served: a window of connections that grows with good replies and shrinks with bad ones.

Like TCP's congestion window: each success widens it a little, so that it grows by one connection once all of them have
succeeded; a refusal that is about us (421, "too many connections", nobody answering) halves it, once for all
conversations that were under way. A rate limit, where a site has one, is a bucket that refills steadily. Nothing here
reads a clock or sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass

#: refusals within so many seconds are one piece of news.
ONE_BLOW_SECONDS = 1.0
#: deliveries taken in advance for each open place, at a site that has been doing well.
MAX_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site is known to bear."""

    #: connections at once, at most.
    connections: int = 20
    #: connections to begin with.
    start_connections: int = 5
    #: messages before a connection is closed.
    messages_per_connection: int = 100
    #: messages started in a second; 0: no limit.
    messages_per_second: float = 0.0
    #: seconds an unused connection is kept.
    idle_seconds: float = 10.0
    #: clear text is never used, policy or not.
    require_tls: bool = False


class Pace:
    """One site's window and bucket. ``now`` is seconds of any clock that never runs backwards."""

    def __init__(self, limits: Limits, now: float) -> None:
        self.limits = limits
        self.window = float(min(limits.start_connections, limits.connections))
        #: deliveries that may wait here for a place, beyond those that have one.
        self.ahead = 0.0
        self._last_blow = now - ONE_BLOW_SECONDS
        self._tokens = max(1.0, limits.messages_per_second)
        self._filled_at = now
        self._slow_until = now
        self._slow_rate = 0.0

    @property
    def places(self) -> int:
        """Connections allowed now."""
        return int(self.window)

    def good(self) -> None:
        """A message was taken over."""
        self.window = min(self.limits.connections, self.window + 1 / self.window)
        self.ahead = min(MAX_AHEAD * self.window, self.ahead + 1)

    def bad(self, now: float) -> None:
        """The site wants less of us."""
        self.ahead = 0.0
        if now - self._last_blow >= ONE_BLOW_SECONDS:
            self.window = max(1.0, self.window / 2)
        self._last_blow = now

    def probe(self) -> None:
        """The site was dead: one connection finds out whether it still is."""
        self.window, self.ahead = 1.0, 0.0

    def slow_down(self, now: float, seconds: float, messages_per_minute: float) -> None:
        """For a while no more than so many messages, over one connection at a time."""
        self.window, self.ahead = 1.0, 0.0
        self._slow_until, self._slow_rate = now + seconds, messages_per_minute / 60
        self._tokens = min(self._tokens, 1.0)

    def wait(self, now: float) -> float:
        """Seconds until a message may start; 0 takes a token for it."""
        rate = self._slow_rate if now < self._slow_until else self.limits.messages_per_second
        if not rate:
            return 0.0
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / rate

    def room(self, busy: int) -> int:
        """Deliveries the site takes on top of ``busy`` ones that wait or run."""
        return max(0, int(self.window + self.ahead) - busy)
