"""What follows from an attempt at a webhook: pure, so that days of retries pass in no time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clawmail.base.ids import new_id
from clawmail.base.settings import WEBHOOK_RETRY_SCHEDULE
from clawmail.core.webhooks.decide import (
    DISABLED_AFTER,
    DISABLED_AFTER_FAILURES,
    FAILURES_BEFORE_REST,
    FIRST_REST_SECONDS,
    MAX_ASKED_SECONDS,
    MAX_REST_SECONDS,
    asked_seconds,
    reports,
    rest_seconds,
    settlement,
)
from clawmail.model.events import Event, EventType
from clawmail.model.webhooks import ClaimedWebhook, WebhookAttempt, WebhookState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVENT = Event(new_id(), new_id(), new_id(), EventType.RECEIVED, NOW)
CLAIMED = ClaimedWebhook(
    new_id(), EVENT.organisation_id, EVENT.id, 1, 0, None, "https://a.test", b"", None, 0, None, EVENT
)
TAKEN = WebhookAttempt(204, "", 0.1)
REFUSED = WebhookAttempt(500, "it answered 500", 0.1)
SILENT = WebhookAttempt(None, "no answer within 10 s", 10.0)
GONE = WebhookAttempt(410, "it answered 410", 0.1)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    row = settlement(CLAIMED, WebhookAttempt(status, "", 0.1), [5.0], NOW, 0.5)
    assert (row.state, row.next_attempt_at, row.status, row.error) == (WebhookState.DELIVERED, None, status, None)


@pytest.mark.parametrize("status", [None, 100, 199, 300, 307, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    row = settlement(CLAIMED, WebhookAttempt(status, "no", 0.1), [5.0], NOW, 0.5)
    assert (row.state, row.next_attempt_at) == (WebhookState.WAITING, NOW + timedelta(seconds=5))


def test_the_schedule_is_ten_tries_in_not_quite_sixteen_hours() -> None:
    waited, tries = timedelta(), 0
    while True:
        row = settlement(replace(CLAIMED, attempts=tries), SILENT, WEBHOOK_RETRY_SCHEDULE, NOW, 0.5)
        tries += 1
        if row.next_attempt_at is None:
            break
        waited += row.next_attempt_at - NOW
    assert (row.state, tries) == (WebhookState.FAILED, 10)
    assert timedelta(hours=15, minutes=30) < waited < timedelta(hours=16)


def test_chance_spreads_retries_by_a_tenth() -> None:
    moments = [settlement(CLAIMED, REFUSED, [100.0], NOW, chance).next_attempt_at for chance in (0.0, 0.5, 1.0)]
    assert [(moment - NOW).total_seconds() for moment in moments if moment] == [90.0, 100.0, 110.0]


def test_who_asks_to_be_left_alone_is_left_alone_for_an_hour_at_most() -> None:
    def busy(seconds: float) -> WebhookAttempt:
        return WebhookAttempt(429, "it answered 429", 0.1, seconds)

    for asked, left in ((120.0, 120.0), (1.0, 5.0), (10.0**9, MAX_ASKED_SECONDS)):
        row = settlement(CLAIMED, busy(asked), [5.0], NOW, 0.5)
        assert (row.state, row.next_attempt_at) == (WebhookState.WAITING, NOW + timedelta(seconds=left))
    (report,) = reports([(CLAIMED, busy(120.0))], NOW, 0.5)
    assert (report.failures, report.resting_until) == (1, NOW + timedelta(seconds=120))
    # One that takes some and sends the others away lives, and rests all the same.
    (report,) = reports([(CLAIMED, TAKEN), (CLAIMED, busy(10.0**9))], NOW, 0.5)
    assert (report.failures, report.resting_until) == (0, NOW + timedelta(seconds=MAX_ASKED_SECONDS))
    # It does not keep an event that has had its last try, nor one that was taken.
    assert settlement(CLAIMED, busy(5.0), [], NOW, 0.5).state is WebhookState.FAILED
    assert asked_seconds(WebhookAttempt(200, "", 0.1, 60.0)) == 0.0


def test_what_was_forgotten_is_given_up_and_is_nobodys_fault() -> None:
    forgotten = replace(CLAIMED, event=None)
    assert settlement(forgotten, SILENT, [5.0], NOW, 0.5).state is WebhookState.FAILED
    assert reports([(forgotten, SILENT)], NOW, 0.5) == []


def test_an_endpoint_that_fails_rests_longer_and_longer() -> None:
    rests = [rest_seconds(failures) for failures in range(1, 40)]
    assert rests[: FAILURES_BEFORE_REST - 1] == [0.0] * (FAILURES_BEFORE_REST - 1)
    assert rests[FAILURES_BEFORE_REST - 1 :][:3] == [FIRST_REST_SECONDS, 2 * FIRST_REST_SECONDS, 4 * FIRST_REST_SECONDS]
    assert rests[-1] == rest_seconds(10**6) == MAX_REST_SECONDS
    (report,) = reports([(CLAIMED, REFUSED)] * 3, NOW, 0.5)
    assert (report.failures, report.resting_until) == (3, NOW + timedelta(seconds=FIRST_REST_SECONDS))


def test_one_success_among_failures_means_that_it_lives() -> None:
    failing = replace(CLAIMED, failures=7, failing_since=NOW - timedelta(days=9))
    (report,) = reports([(failing, SILENT), (failing, TAKEN), (failing, REFUSED)], NOW, 0.5)
    assert report == (CLAIMED.webhook_id, 0, None, None, CLAIMED.url)


def test_endpoints_are_judged_one_by_one() -> None:
    other = replace(CLAIMED, webhook_id=new_id())
    found = {one.webhook_id: one.failures for one in reports([(CLAIMED, REFUSED), (other, TAKEN)], NOW, 0.5)}
    assert found == {CLAIMED.webhook_id: 1, other.webhook_id: 0}


def test_gone_disables_at_once() -> None:
    (report,) = reports([(CLAIMED, TAKEN), (CLAIMED, GONE)], NOW, 0.5)
    assert report.disabled_reason == "it answered 410 Gone"


def test_days_of_nothing_but_failures_disable() -> None:
    long_ago = replace(CLAIMED, failures=DISABLED_AFTER_FAILURES - 1, failing_since=NOW - DISABLED_AFTER)
    (report,) = reports([(long_ago, SILENT)], NOW, 0.5)
    assert report.disabled_reason == "it took nothing for 5 days"
    # A few failures that happen to lie far apart say little.
    (report,) = reports([(replace(long_ago, failures=3), SILENT)], NOW, 0.5)
    assert report.disabled_reason is None
    (report,) = reports([(replace(long_ago, failing_since=NOW - DISABLED_AFTER / 2), SILENT)], NOW, 0.5)
    assert report.disabled_reason is None
