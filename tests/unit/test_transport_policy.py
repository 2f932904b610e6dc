"""MTA-STS records and policies (RFC 8461), DANE (RFC 7672)."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.dane import mismatch, usable
from clawmail.protocol.dns import TLSA
from clawmail.protocol.mtasts import MAX_AGE_SECONDS, MAX_POLICY_OCTETS, StsPolicy, Unreadable, policy_id, read_policy
from tests.support.certificates import make_authority, make_host

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([b"v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        ([b"v=STSv1;id=1"], "1"),
        ([b"v=STSv1; x=y; id=1"], "1"),
        ([b"v=spf1 -all", b"v=STSv1; id=1;"], "1"),
        ([b"v=STSv1; id=1;", b"v=STSv1; id=2;"], None),
        ([b"v=STSv1;"], None),
        ([b"v=STSv1; id=not-alnum;"], None),
        ([b"v=STSv1; id=" + b"x" * 33], None),
        ([b"V=STSV1; id=1"], None),
        ([], None),
    ],
)
def test_the_record_announces_a_policy(records: list[bytes], found: str | None) -> None:
    assert policy_id(records) == found


def test_a_policy_is_read() -> None:
    text = b"version: STSv1\r\nmode: enforce\r\nmx: mail.there.test\r\nmx: *.There.Test.\r\nmax_age: 604800\r\nx: y\r\n"
    policy = read_policy(text)
    assert policy == StsPolicy("enforce", ("mail.there.test", "*.there.test"), 604800)
    assert policy.allows("MAIL.there.test") and policy.allows("a.there.test")
    assert not policy.allows("there.test") and not policy.allows("a.b.there.test") and not policy.allows("a.test")
    assert read_policy(text.replace(b"\r\n", b"\n")) == policy


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"mode: enforce\nmx: a.test\nmax_age: 1\n",
        b"version: STSv1\nmode: strict\nmx: a.test\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmx: a.test\n",
        b"version: STSv1\nmode: enforce\nmx: a.*.test\nmax_age: 1\n",
        b"version: STSv1\nmode: enforce\nmx: a.test\nmax_age: -1\n",
        b"x" * (MAX_POLICY_OCTETS + 1),
    ],
)
def test_what_is_no_policy(text: bytes) -> None:
    assert isinstance(read_policy(text), Unreadable)


def test_a_policy_of_none_needs_no_hosts_and_ages_are_bounded() -> None:
    assert read_policy(b"version: STSv1\nmode: none\nmax_age: 9999999999\n") == StsPolicy("none", (), MAX_AGE_SECONDS)


@given(st.binary(max_size=300))
def test_any_octets_are_read_without_a_fault(octets: bytes) -> None:
    read_policy(octets)
    policy_id([octets])


def test_records_that_cannot_be_used_are_left_out() -> None:
    sha256 = b"\0" * 32
    good = [TLSA(3, 1, 1, sha256), TLSA(2, 0, 2, b"\0" * 64), TLSA(3, 0, 0, b"whole")]
    bad = [TLSA(1, 1, 1, sha256), TLSA(3, 2, 1, sha256), TLSA(3, 1, 3, sha256), TLSA(3, 1, 1, b"short")]
    assert usable([*bad, *good]) == tuple(good)


HOST = make_host("any.name", days=-1)  # expired, and another name: DANE-EE does not care
AUTHORITY = make_authority()
SIGNED = make_host("mx.there.test", by=AUTHORITY)
NAMES = ["mx.there.test"]


@pytest.mark.parametrize(
    "record",
    [
        TLSA(3, 1, 1, hashlib.sha256(HOST.spki).digest()),
        TLSA(3, 0, 1, hashlib.sha256(HOST.der).digest()),
        TLSA(3, 1, 2, hashlib.sha512(HOST.spki).digest()),
        TLSA(3, 1, 0, HOST.spki),
    ],
)
def test_dane_ee_names_the_key_and_nothing_else(record: TLSA) -> None:
    assert mismatch([HOST.der], [record], NAMES, NOW) == ""
    assert "TLSA" in mismatch([SIGNED.der], [record], NAMES, NOW)


def test_dane_ta_wants_a_chain_a_name_and_a_date() -> None:
    record = TLSA(2, 1, 1, hashlib.sha256(AUTHORITY.spki).digest())
    chain = [SIGNED.der, AUTHORITY.der]
    assert mismatch(chain, [record], NAMES, NOW) == ""
    assert "not for" in mismatch(chain, [record], ["mx.elsewhere.test"], NOW)
    assert "no authority" in mismatch([SIGNED.der], [record], NAMES, NOW)
    assert "no authority" in mismatch([HOST.der, AUTHORITY.der], [record], NAMES, NOW) or "valid" in mismatch(
        [HOST.der, AUTHORITY.der], [record], NAMES, NOW
    )
    late = make_host("mx.there.test", by=AUTHORITY, days=-1)
    assert "not valid now" in mismatch([late.der, AUTHORITY.der], [record], NAMES, NOW)
    impostor = make_host("mx.there.test", by=make_authority())  # signed by another one of the same name
    assert "no authority" in mismatch([impostor.der, AUTHORITY.der], [record], NAMES, NOW)


def test_a_host_that_shows_nothing_or_nonsense() -> None:
    record = TLSA(3, 1, 1, b"\0" * 32)
    assert "no certificate" in mismatch([], [record], NAMES, NOW)
    assert "cannot be read" in mismatch([b"garbage"], [record], NAMES, NOW)
