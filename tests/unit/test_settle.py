"""What follows from a reply: verdicts, waits, notices, and states that only move as they may."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.base.ids import new_id
from clawmail.core.outbound.classify import Reason, classify, nobody_answered, wants_less
from clawmail.core.outbound.settle import Decision, Schedule, decide, settlement, wait_asked
from clawmail.core.outbound.settler import failure_of
from clawmail.model.attempt import Outcome, Stage, Try
from clawmail.model.delivery import ClaimedDelivery, State, may_move
from clawmail.model.events import EventType
from clawmail.protocol.replies import Reply, ReplyReader, our_reply

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SCHEDULE = Schedule((300, 900, 1800), jitter=0.1, delay_notice=1200)


def delivery(*, attempts: int = 0, **more: Any) -> ClaimedDelivery:
    values: dict[str, Any] = {
        "id": new_id(),
        "organisation_id": new_id(),
        "domain_id": new_id(),
        "inbox_id": new_id(),
        "email_id": new_id(),
        "rule_id": None,
        "message_id": new_id(),
        "kind": "send",
        "envelope_from": "agent@example.test",
        "recipient": "bob@there.test",
        "destination": "there.test",
        "created_at": NOW,
        "prefix": b"",
        "options": {},
        "lease_owner": new_id(),
        "lease_fence": 1,
    }
    return ClaimedDelivery(attempts=attempts, **(values | more))


def reply(line: str) -> Reply:
    (one,) = ReplyReader().feed(line.encode() + b"\r\n")
    return one


def outcome(line: str | Reply, stage: Stage = Stage.RCPT) -> Outcome:
    return Outcome((Try("mx.there.test", "192.0.2.1", stage, line if isinstance(line, Reply) else reply(line)),))


def decided(line: str | Reply, stage: Stage = Stage.RCPT, **more: Any) -> Decision:
    return decide(outcome(line, stage), delivery(**more), SCHEDULE, 0.5)


VERDICTS = [
    ("550 5.1.1 no such user", Stage.RCPT, "bounced", Reason.RECIPIENT, "hard"),
    ("550 no", Stage.RCPT, "bounced", Reason.RECIPIENT, "hard"),
    ("550 5.1.2 bad host", Stage.RCPT, "bounced", Reason.DOMAIN, "hard"),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", Stage.RCPT, "bounced", None, "hard"),
    ("450 5.1.1 gone", Stage.RCPT, "bounced", Reason.RECIPIENT, "hard"),
    ("550 4.1.1 not yet", Stage.RCPT, "deferred", Reason.RECIPIENT, "soft"),
    ("552 5.2.2 mailbox full", Stage.RCPT, "deferred", Reason.MAILBOX_FULL, "soft"),
    ("552 too many", Stage.RCPT, "deferred", Reason.RATE, "block"),
    ("552 5.3.4 too big", Stage.RCPT, "bounced", Reason.CONTENT, "soft"),
    ("552 5.2.2 mailbox full", Stage.DOT, "bounced", Reason.MAILBOX_FULL, "soft"),
    (
        "554 5.7.1 Service unavailable; client blocked using zen.spamhaus.org",
        Stage.RCPT,
        "bounced",
        Reason.BLOCKED,
        "block",
    ),
    ("550 5.7.26 Unauthenticated email is not accepted", Stage.DOT, "bounced", Reason.AUTHENTICATION, "block"),
    ("550 5.7.1 message looks like spam", Stage.DOT, "bounced", Reason.SPAM, "block"),
    ("554 5.6.0 content", Stage.DOT, "bounced", Reason.CONTENT, "soft"),
    ("421 4.7.28 unusual rate", Stage.MAIL, "deferred", Reason.RATE, "block"),
    ("550 Greylisted, try again", Stage.RCPT, "deferred", Reason.RATE, "block"),
    ("554 no service", Stage.GREETING, "deferred", Reason.OTHER, "soft"),
    ("521 no mail here", Stage.GREETING, "bounced", Reason.OTHER, "soft"),
    ("500 what", Stage.MAIL, "bounced", Reason.PROTOCOL, "soft"),
]


@pytest.mark.parametrize(("line", "stage", "state", "reason", "weight"), VERDICTS, ids=[case[0] for case in VERDICTS])
def test_a_reply_is_judged(line: str, stage: Stage, state: str, reason: Reason | None, weight: str) -> None:
    decision = decided(line, stage)
    assert decision.state == state
    assert decision.verdict is not None and decision.verdict.weight == weight
    assert reason in (None, decision.verdict.reason)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Greylisted, please try again in 5 minutes", 310),
        ("try again in 300 seconds", 310),
        ("Please retry after 2 hours", 7210),
        ("Greylisting in effect, come back in 00:04:30", 280),
        ("greylisted for 10:00", 610),
        ("try again in 90000 hours", 6 * 3600),
        ("user unknown", None),
        ("code 12 minutes of fame", None),
        ("x" * 5000 + " try again in 5 minutes", None),
    ],
)
def test_a_host_may_say_how_long_to_wait(text: str, seconds: float | None) -> None:
    assert wait_asked(text) == seconds


def test_the_schedule_is_followed_to_its_end() -> None:
    waits = [decided("451 later", attempts=attempts) for attempts in range(4)]
    assert [decision.wait for decision in waits] == [300, 900, 1800, None]
    assert [decision.state for decision in waits] == ["deferred", "deferred", "deferred", "expired"]
    # The delay is told once it is twenty minutes long, and once only.
    assert [decision.notice for decision in waits] == [None, None, "delayed", "failed"]
    assert decided("451 later", attempts=2, delay_noticed=True).notice is None


def test_chance_spreads_retries_within_the_jitter() -> None:
    waits = [decide(outcome("451 x"), delivery(), SCHEDULE, chance).wait for chance in (0.0, 0.5, 1.0)]
    assert waits == [pytest.approx(270), pytest.approx(300), pytest.approx(330)]


@pytest.mark.parametrize(
    ("more", "notice"),
    [
        ({}, "failed"),
        ({"envelope_from": ""}, None),
        ({"kind": "forward"}, None),
        ({"kind": "bounce", "envelope_from": ""}, None),
        ({"options": {"notify": ["NEVER"]}}, None),
        ({"options": {"notify": "SUCCESS,DELAY"}}, None),
        ({"options": {"notify": ("success", "failure")}}, "failed"),
    ],
)
def test_senders_are_told_as_they_wished(more: dict[str, Any], notice: str | None) -> None:
    assert decided("550 5.1.1 no", **more).notice == notice


def test_a_receipt_is_written_here_only_if_the_host_writes_none() -> None:
    wish: dict[str, Any] = {"options": {"notify": ["SUCCESS"]}}
    tried = Try("mx", "192.0.2.1", Stage.DOT, reply("250 ok"))
    assert decide(Outcome((tried,)), delivery(**wish), SCHEDULE, 0.5).notice == "delivered"
    reporting = Try("mx", "192.0.2.1", Stage.DOT, reply("250 ok"), reports=True)
    assert decide(Outcome((reporting,)), delivery(**wish), SCHEDULE, 0.5).notice is None
    assert decide(Outcome((tried,)), delivery(), SCHEDULE, 0.5).notice is None


def test_only_what_says_something_about_the_address_counts_against_it() -> None:
    def failure(line: str | Reply, stage: Stage = Stage.RCPT, **more: Any) -> bool | None:
        one, result = delivery(**more), outcome(line, stage)
        found = failure_of(one, result, decide(result, one, SCHEDULE, 0.5))
        return None if found is None else found.hard

    assert failure("550 5.1.1 no such user") is True
    assert failure("552 5.2.2 full", Stage.DOT) is False
    assert failure("554 5.7.1 blocked using a block list") is None
    assert failure("450 4.2.1 not now") is None
    assert failure("450 4.2.1 not now", attempts=3) is False
    assert failure(our_reply(552, "5.3.4", "too large"), Stage.LOCAL) is None
    assert failure("550 5.1.1 no such user", kind="forward") is None


def test_a_dead_host_is_told_from_one_that_wants_less() -> None:
    dead = outcome(our_reply(451, "4.4.1", "no answer"), Stage.CONNECT)
    assert nobody_answered(dead) and wants_less(dead)
    busy = outcome("421 4.3.2 busy", Stage.MAIL)
    assert wants_less(busy) and not nobody_answered(busy)
    greylisted = outcome("450 4.2.1 mailbox busy")
    assert not wants_less(greylisted) and not nobody_answered(greylisted)


lines = st.builds(
    lambda code, enhanced, text: f"{code} {enhanced}{text}",
    st.integers(200, 599),
    st.sampled_from(["", "2.0.0 ", "4.2.1 ", "5.1.1 ", "5.7.1 ", "4.7.0 "]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=60),
)


@given(
    lines, st.sampled_from(Stage), st.integers(0, 5), st.floats(0, 1), st.sampled_from(["send", "forward", "bounce"])
)
def test_no_reply_breaks_the_state_table(line: str, stage: Stage, attempts: int, chance: float, kind: str) -> None:
    one, result = delivery(attempts=attempts, kind=kind), outcome(line, stage)
    decision = decide(result, one, SCHEDULE, chance)
    assert may_move(State.LEASED, decision.state)
    assert (decision.wait is None) == (decision.state is not State.DEFERRED)
    assert decision.wait is None or decision.wait > 0
    assert classify(result.last).weight in ("hard", "soft", "block")
    row = settlement(result, one, decision, NOW)
    assert row.events[0][0] is EventType.ATTEMPTED and len(row.events) == 2
    assert decision.state is not State.DELIVERED or (stage is Stage.DOT and result.reply.code < 300)
