"""Rewritten senders and signed return paths."""

from __future__ import annotations

import pytest

from clawmail.base.ids import new_id
from clawmail.protocol.address import parse_address
from clawmail.protocol.srs import (
    VALID_DAYS,
    make_return_path,
    read_return_path,
    reverse_sender,
    rewrite_sender,
)

KEY = b"k" * 32
DAY = 86_400.0
NOW = 20_000 * DAY


def rewrite(sender: str, domain: str = "ours.example", now: float = NOW) -> str:
    return rewrite_sender(sender, domain=domain, key=KEY, now=now)


def reverse(recipient: str, domain: str = "ours.example", now: float = NOW, key: bytes = KEY) -> str | None:
    return reverse_sender(recipient, domain=domain, key=key, now=now).address


@pytest.mark.parametrize("sender", ["ann@example.org", "a=b+c@example.org", "Ann@sub.example.org", "jörg@example.org"])
def test_there_and_back(sender: str) -> None:
    rewritten = rewrite(sender)
    assert rewritten.startswith("SRS0=")
    assert rewritten.endswith(
        f"=example.org={sender.split('@')[0]}@ours.example".replace("example.org", sender.split("@")[1])
    )
    assert parse_address(rewritten) is not None
    assert reverse(rewritten) == sender


def test_what_needs_no_rewriting() -> None:
    assert rewrite("") == ""
    assert rewrite("bob@OURS.example") == "bob@OURS.example"


def test_later_forwarders_do_not_make_it_longer() -> None:
    first = rewrite("ann@example.org", "first.example")
    second = rewrite(first, "second.example")
    third = rewrite(second, "third.example")
    assert second.startswith("SRS1=")
    assert len(third) <= len(second)
    assert reverse(third, "third.example") == first, "the last forwarder sends bounces straight to the first"
    assert reverse(second, "second.example") == first
    assert reverse(first, "first.example") == "ann@example.org"


def test_case_may_change_on_the_way() -> None:
    rewritten = rewrite("ann@example.org")
    assert reverse(rewritten.lower()) == "ann@example.org"
    assert reverse(rewritten.upper()) == "ANN@example.org"


@pytest.mark.parametrize(
    ("recipient", "problem"),
    [
        ("bob@ours.example", "not a rewritten address"),
        ("SRS0=AAAAAAAA=TU=example.org=ann@ours.example", "the hash is not ours"),
        ("SRS1=AAAAAAAA=first.example==x=TU=example.org=ann@ours.example", "the hash is not ours"),
        ("SRS0=x@ours.example", "not a rewritten address"),
        ("SRS0=AAAAAAAA=TU=example.org=ann@elsewhere.example", "not an address of this domain"),
    ],
)
def test_forged_addresses_say_why(recipient: str, problem: str) -> None:
    answer = reverse_sender(recipient, domain="ours.example", key=KEY, now=NOW)
    assert (answer.address, answer.problem) == (None, problem)


def test_no_part_may_be_changed_and_the_key_counts() -> None:
    rewritten = rewrite("ann@example.org")
    assert reverse(rewritten, key=b"other") is None
    assert reverse(rewritten.replace("ann@", "bob@")) is None
    assert reverse(rewritten.replace("example.org", "example.net")) is None


def test_addresses_expire() -> None:
    rewritten = rewrite("ann@example.org")
    assert reverse(rewritten, now=NOW + VALID_DAYS * DAY) == "ann@example.org"
    assert reverse(rewritten, now=NOW + (VALID_DAYS + 1) * DAY) is None
    assert reverse(rewritten, now=NOW - DAY) is None, "from the future"
    late = rewrite("ann@example.org", now=1023 * DAY)
    assert reverse(late, now=1030 * DAY) == "ann@example.org", "the stamp goes round after 1,024 days"


def test_a_return_path_names_its_delivery() -> None:
    delivery = str(new_id())
    path = make_return_path(delivery, domain="ours.example", key=KEY)
    assert parse_address(path) is not None, "it fits the 64 octets of a local part"
    assert read_return_path(path, key=KEY) == delivery
    assert read_return_path(path.upper(), key=KEY) == delivery
    assert read_return_path(path, key=b"other") is None
    assert read_return_path(path.replace("ours.", "theirs."), key=KEY) is None
    other = make_return_path(str(new_id()), domain="ours.example", key=KEY)
    assert read_return_path(path.split(".")[0] + "." + other.split(".", 1)[1], key=KEY) is None
    for forged in ("bounce+x@ours.example", "bounce+.@ours.example", "bob@ours.example", "", "bounce+a.b@"):
        assert read_return_path(forged, key=KEY) is None
