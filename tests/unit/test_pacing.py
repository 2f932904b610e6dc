"""Windows that grow and shrink, buckets that refill, presets that are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from clawmail.core.outbound.hosts import Hosts
from clawmail.core.outbound.pacing import Limits, Pace
from clawmail.core.outbound.presets import PresetsError, load_presets


def test_the_window_grows_by_one_when_all_of_it_succeeded() -> None:
    pace = Pace(Limits(connections=4, start_connections=2), 0)
    assert pace.places == 2
    for _ in range(3):
        pace.good()
    assert pace.places == 3
    for _ in range(100):
        pace.good()
    assert pace.places == 4


def test_one_blow_halves_it_once_however_many_conversations_feel_it() -> None:
    pace = Pace(Limits(connections=16, start_connections=16), 0)
    for _ in range(9):
        pace.bad(10.0)
    assert pace.places == 8
    pace.bad(12.0)
    assert pace.places == 4
    for second in range(20, 40, 2):
        pace.bad(float(second))
    assert pace.places == 1


def test_more_is_taken_in_advance_from_a_site_that_does_well() -> None:
    pace = Pace(Limits(connections=20, start_connections=5), 0)
    assert pace.room(0) == 5 and pace.room(7) == 0
    for _ in range(500):
        pace.good()
    assert pace.room(0) == 20 + 8 * 20
    pace.bad(1.0)
    assert pace.room(0) == 10
    pace.probe()
    assert pace.room(0) == 1


def test_a_rate_is_kept_and_slowed() -> None:
    pace = Pace(Limits(messages_per_second=2), 0)
    assert [pace.wait(0), pace.wait(0)] == [0, 0]
    assert pace.wait(0) == pytest.approx(0.5)
    assert pace.wait(0.5) == 0
    pace.slow_down(0.5, seconds=60, messages_per_minute=6)
    assert pace.places == 1
    assert pace.wait(1.0) == pytest.approx(9.5)
    assert pace.wait(11.0) == 0
    assert pace.wait(61.0) == 0  # the usual rate again


def test_without_a_rate_nothing_waits() -> None:
    pace = Pace(Limits(), 0)
    assert [pace.wait(0) for _ in range(100)] == [0] * 100


@pytest.mark.parametrize(
    ("hosts", "site"),
    [
        (("aspmx.l.google.com", "alt1.aspmx.l.google.com"), "google"),
        (("there-test.mail.protection.outlook.com",), "microsoft"),
        (("mta5.am0.yahoodns.net",), "yahoo"),
        (("mx.google.com.evil.test",), "mx.google.com.evil.test"),
        (("notgoogle.com",), "notgoogle.com"),
        (("aspmx.l.google.com", "mx.icloud.com"), "aspmx.l.google.com+mx.icloud.com"),
        (("a.test", "b.test"), "a.test+b.test"),
    ],
)
def test_domains_at_one_provider_share_its_site(hosts: tuple[str, ...], site: str) -> None:
    assert load_presets().site_of(hosts)[0] == site


def test_the_built_in_presets_say_what_the_providers_are_known_to_bear() -> None:
    presets = load_presets(idle_seconds=3)
    _, google = presets.site_of(("aspmx.l.google.com",))
    assert (google.connections, google.messages_per_connection, google.require_tls) == (5, 50, True)
    assert google.idle_seconds == 3
    reaction = presets.reaction("yahoo", "421 4.7.0 [TSS04] Messages temporarily deferred")
    assert reaction is not None and reaction.suspend_seconds == 7200
    assert presets.reaction("elsewhere", "[TSS04]") is None


def test_processes_that_send_from_one_address_share_what_it_may() -> None:
    two, many = load_presets(processes=2), load_presets(processes=12)
    assert (two.default.connections, two.default.start_connections) == (10, 2)
    assert two.site_of(("aspmx.l.google.com",))[1].connections == 2
    assert many.site_of(("aspmx.l.google.com",))[1].connections == 1
    alone = load_presets().site_of(("mx1.mail.yahoo.co.jp",))[1]
    assert two.site_of(("mx1.mail.yahoo.co.jp",))[1].messages_per_second == alone.messages_per_second / 2 > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[default]\nconections = 3", "conections"),
        ("[[provider]]\nname = 'x'", "mx_suffixes"),
        ("[default]\nconnections = 0", "at least 1"),
        ("[[reply]]\ncontains = 3", "str"),
        ("[default", "Expected"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "presets.toml"
    file.write_text(text)
    with pytest.raises(PresetsError, match=words):
        load_presets(str(file))


def test_dead_hosts_are_skipped_unless_all_are() -> None:
    hosts = Hosts()
    assert hosts.in_order(["a", "b"], 0) == ["a", "b"]
    hosts.died("a", 0)
    assert hosts.in_order(["a", "b"], 59) == ["b"]
    assert hosts.in_order(["a"], 59) == ["a"]
    assert hosts.in_order(["a", "b"], 61) == ["a", "b"]
    hosts.died("a", 61)  # twice as long
    assert hosts.in_order(["a", "b"], 61 + 119) == ["b"]
    hosts.answered("a")
    assert hosts.in_order(["a", "b"], 62) == ["a", "b"]
