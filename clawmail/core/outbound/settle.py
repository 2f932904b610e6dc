"""What follows from an attempt: a pure decision, then the rows that write it.

A reply is permanent, temporary, or a success (``classify``). A temporary failure waits for the next gap of the
retry schedule, or as long as the reply asks for; after the last gap the delivery expires. Time and chance are
arguments, so every retry can be tested without sleeping.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from clawmail.core.outbound.classify import MAX_SEARCHED, Verdict, classify, is_permanent
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery, Notice, Settlement, State
from clawmail.model.events import EventType

#: a host's "try again in …" is believed up to so many seconds.
MAX_WAIT_ASKED_SECONDS = 6 * 3600
#: added to what was asked, since the two clocks differ.
WAIT_MARGIN_SECONDS = 10

_WAIT_ASKED = re.compile(
    r"(?:try|retry|again|wait|come back|later|resend|for|in)\b.{0,30}?\b(\d{1,5})\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b",
    re.IGNORECASE,
)
# What greylisting daemons write: "Greylisted for 00:04:30", "(300s)".
_CLOCK_ASKED = re.compile(r"gr[ea]y ?list.{0,40}?\b(\d{1,2}):(\d{2})(?::(\d{2}))?", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to try again."""

    #: seconds before the second try, the third …
    gaps: Sequence[float]
    #: share by which a gap is stretched or shrunk.
    jitter: float = 0.1
    #: a sender is told of the delay once his mail has waited so many seconds; 0: never.
    delay_notice: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a delivery goes after an attempt."""

    state: State
    #: what the failure is about; None after a success.
    verdict: Verdict | None = None
    #: seconds until the next try, for DEFERRED.
    wait: float | None = None
    notice: Notice | None = None


def decide(outcome: Outcome, delivery: ClaimedDelivery, schedule: Schedule, chance: float) -> Decision:
    """Where ``delivery`` goes. ``chance`` is a number from 0 to 1 that spreads retries."""
    if outcome.delivered:
        told_by_host = outcome.last.reports
        return Decision(State.DELIVERED, notice=None if told_by_host else _notice(delivery, "delivered", "SUCCESS"))
    last = outcome.last
    verdict = classify(last)
    if is_permanent(last):
        return Decision(State.BOUNCED, verdict, notice=_notice(delivery, "failed", "FAILURE"))
    if delivery.attempts >= len(schedule.gaps):
        return Decision(State.EXPIRED, verdict, notice=_notice(delivery, "failed", "FAILURE"))
    gap = schedule.gaps[delivery.attempts] * (1 + schedule.jitter * (2 * chance - 1))
    waited = sum(schedule.gaps[: delivery.attempts])
    late = 0 < schedule.delay_notice <= waited and not delivery.delay_noticed
    return Decision(
        State.DEFERRED,
        verdict,
        wait=gap if last.reply.ours else wait_asked(last.reply.text) or gap,
        notice=_notice(delivery, "delayed", "DELAY") if late else None,
    )


def wait_asked(text: str) -> float | None:
    """Seconds that a reply asks us to wait ("try again in 5 minutes"), with a margin; None if it names no time."""
    text = text[:MAX_SEARCHED]
    if (clock := _CLOCK_ASKED.search(text)) is not None:
        # "00:05" is minutes and seconds as often as hours and minutes; three numbers leave no doubt.
        first, second, third = int(clock[1]), int(clock[2]), clock[3]
        seconds = first * 3600 + second * 60 + int(third) if third else first * 60 + second
    elif (found := _WAIT_ASKED.search(text)) is not None:
        seconds = int(found[1]) * _UNIT_SECONDS[found[2][0].lower()]
    else:
        return None
    return min(seconds + WAIT_MARGIN_SECONDS, MAX_WAIT_ASKED_SECONDS)


def _notice(delivery: ClaimedDelivery, notice: Notice, condition: str) -> Notice | None:
    """Whether the sender is told. Never a null sender, nor strangers whose mail a rule forwarded (RFC 3461 4.1)."""
    if not delivery.envelope_from or delivery.kind != "send" or delivery.inbox_id is None:
        return None
    wishes = notify_wishes(delivery.options)
    if not wishes:
        return None if notice == "delivered" else notice
    return notice if condition in wishes else None


def notify_wishes(options: dict[str, Any]) -> tuple[str, ...]:
    """NOTIFY of RFC 3461 as it was asked for: () is the default."""
    wishes = options.get("notify") or ()
    words = wishes.split(",") if isinstance(wishes, str) else wishes
    return tuple(str(word).strip().upper() for word in words)


_EVENTS = {
    State.DELIVERED: EventType.DELIVERED,
    State.DEFERRED: EventType.DEFERRED,
    State.BOUNCED: EventType.BOUNCED,
    State.EXPIRED: EventType.BOUNCED,
}


def settlement(outcome: Outcome, delivery: ClaimedDelivery, decision: Decision, now: datetime) -> Settlement:
    """The rows of a decision: the new state, and an event for each host tried and for the result."""
    last = outcome.last
    next_attempt_at = now + timedelta(seconds=decision.wait) if decision.wait is not None else None
    number = delivery.attempts + 1
    result = facts(last) | {"attempt": number}
    if decision.verdict is not None:
        result |= {"reason": decision.verdict.reason.value, "weight": decision.verdict.weight}
    if next_attempt_at is not None:
        result["next_attempt_at"] = next_attempt_at.isoformat()
    if decision.state is State.EXPIRED:
        result["expired"] = True
    if delivery.rule_id is not None:
        result["rule_id"] = str(delivery.rule_id)
    attempts = [(EventType.ATTEMPTED, facts(tried) | {"attempt": number}) for tried in outcome.tries]
    return Settlement(
        delivery_id=delivery.id,
        fence=delivery.lease_fence,
        state=decision.state,
        counted=True,
        next_attempt_at=next_attempt_at,
        reply=str(last.reply),
        host=last.host or None,
        reply_by=last.reply_by,
        notice=decision.notice,
        events=(*attempts, (_EVENTS[decision.state], result)),
    )


def facts(tried: Try) -> dict[str, Any]:
    """A try in the words of an event's detail."""
    told: dict[str, Any] = {"stage": tried.stage.value, "reply": str(tried.reply), "seconds": round(tried.seconds, 3)}
    if tried.host:
        told |= {"host": tried.host, "ip": tried.ip}
    if tried.stage is not Stage.DNS and not tried.reply.ours:
        told |= {"code": tried.reply.code, "enhanced_code": tried.reply.enhanced or None}
    if tried.tls is not None:
        told["tls"] = {"version": tried.tls.version, "cipher": tried.tls.cipher, "verified": tried.tls.verified or None}
    if tried.ambiguous:
        told["possible_duplicate"] = True
    return told
