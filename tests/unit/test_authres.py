"""Authentication-Results (RFC 8601): what we write, read back by ``authres``, and forgeries of our name."""

from __future__ import annotations

import re
from dataclasses import replace

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.arc import ArcResult
from clawmail.protocol.authres import (
    claimed_names,
    fold,
    remove_forged,
    results_field,
    strip_forged,
    write_results,
)
from clawmail.protocol.authres.forged import MAX_IDS
from clawmail.protocol.authres.write import MAX_DKIM_CLAUSES
from clawmail.protocol.dkim.verify import DkimResult
from clawmail.protocol.dmarc import DmarcResult
from clawmail.protocol.dmarc.record import Policies
from clawmail.protocol.headers import MAX_FIELDS, HeaderField, split_message, unfold
from clawmail.protocol.iprev import IprevResult
from clawmail.protocol.spf.check import SpfResult

SPF = SpfResult("pass", "example.com", "mailfrom")
DKIM = DkimResult(
    result="pass",
    signing_domain="example.com",
    selector="s1",
    algorithm="rsa-sha256",
    identity="@example.com",
    reason="",
    testing=False,
    key_bits=2048,
    signature_start="AbC+/d==",
    limited=False,
)
DMARC = DmarcResult(
    "pass", "reject", "example.com", published=Policies("reject", None, None), header_from="mail.example.com"
)
ARC = ArcResult(result="none", instance=0, reason="", oldest_pass=0, sealers=())
IPREV = IprevResult("pass", "out.example.com", "", "2001:db8::1")


def write(
    spf: SpfResult | None = SPF,
    mail_from: str = "ann@example.com",
    dkim: tuple[DkimResult, ...] = (DKIM,),
    dmarc: DmarcResult = DMARC,
    iprev: IprevResult | None = IPREV,
) -> str:
    return write_results("mx.example.org", spf=spf, mail_from=mail_from, dkim=dkim, dmarc=dmarc, arc=ARC, iprev=iprev)


def read(value: str) -> list[tuple[str, str, dict[str, str]]]:
    """The clauses as an independent reader sees them."""
    parsed = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {value}")
    assert parsed.authserv_id == "mx.example.org"
    return [
        (clause.method, clause.result, {f"{p.type}.{p.name}": str(p.value) for p in clause.properties})
        for clause in parsed.results
    ]


def test_one_clause_a_method_in_the_order_they_were_found_out() -> None:
    assert write() == (
        'mx.example.org; iprev=pass (out.example.com) policy.iprev="2001:db8::1"; '
        "spf=pass smtp.mailfrom=ann@example.com; "
        'dkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256 header.b="AbC+/d=="; '
        "dmarc=pass (p=REJECT) header.from=mail.example.com policy.dmarc=reject; "
        "arc=none"
    )


def test_an_independent_reader_finds_the_same() -> None:
    assert read(write()) == [
        ("iprev", "pass", {"policy.iprev": "2001:db8::1"}),
        ("spf", "pass", {"smtp.mailfrom": "ann@example.com"}),
        (
            "dkim",
            "pass",
            {"header.d": "example.com", "header.s": "s1", "header.a": "rsa-sha256", "header.b": "AbC+/d=="},
        ),
        ("dmarc", "pass", {"header.from": "mail.example.com", "policy.dmarc": "reject"}),
        ("arc", "none", {}),
    ]


def test_the_null_sender_is_shown_by_its_helo() -> None:
    assert ("spf", "pass", {"smtp.helo": "mail.example.com"}) in read(
        write(spf=SpfResult("pass", "mail.example.com", "helo"), mail_from="")
    )


def test_what_was_not_checked_is_not_mentioned_but_no_signature_is_a_result() -> None:
    methods = [(method, result) for method, result, _ in read(write(spf=None, iprev=None, dkim=()))]
    assert methods == [("dkim", "none"), ("dmarc", "pass"), ("arc", "none")]


def test_dkim_once_for_each_signature_and_never_endlessly() -> None:
    other = replace(DKIM, result="fail", signing_domain="list.example.net", reason="the body was changed")
    clauses = [clause for clause in read(write(dkim=(DKIM, other))) if clause[0] == "dkim"]
    assert [(result, properties["header.d"]) for _, result, properties in clauses] == [
        ("pass", "example.com"),
        ("fail", "list.example.net"),
    ]
    assert write(dkim=(other,) * 500).count("dkim=") == MAX_DKIM_CLAUSES


@pytest.mark.parametrize(
    ("mail_from", "domain", "shown"),
    [
        ("ann@example.com", "example.com", "ann@example.com"),
        ('"a b"@example.com', "example.com", "example.com"),
        ("x; dkim=pass@example.com", "example.com", "example.com"),
        ("a(b)@example.com", "example.com", "example.com"),
        ("jörg@example.com", "example.com", "example.com"),
        ("a\r\nb@example.com", "example.com", "example.com"),
        ("ann@[192.0.2.1]", "[192.0.2.1]", "[192.0.2.1]"),
        ("ann@ex ample.com", "ex ample.com", None),
        ("ann@a;b", "a;b", None),
        ("a" * 300 + "@example.com", "example.com", "example.com"),
    ],
)
def test_only_a_plain_sender_is_written(mail_from: str, domain: str, shown: str | None) -> None:
    value = write(spf=SpfResult("fail", domain, "mailfrom"), mail_from=mail_from)
    properties = next(properties for method, _, properties in read(value) if method == "spf")
    assert properties.get("smtp.mailfrom") == shown


hostile = st.one_of(
    st.text(st.sampled_from('a.@"\\();=/ \t\r\n\x00ü\u2028,:[]-_'), max_size=30),
    st.sampled_from(["x; dkim=pass header.d=bank.example", 'a"; spf=pass', "a\r\n b", "(", '"', "\\", "@;dmarc=pass"]),
)


@given(hostile, hostile, hostile, hostile, hostile, st.sampled_from(["mailfrom", "helo"]))
@settings(max_examples=300)
def test_no_stranger_can_add_a_result(one: str, two: str, three: str, four: str, five: str, identity: str) -> None:
    value = write_results(
        "mx.example.org",
        spf=SpfResult("fail", one, "mailfrom" if identity == "mailfrom" else "helo", problem=two),
        mail_from=f"{three}@{one}",
        dkim=[replace(DKIM, result="fail", signing_domain=four, selector=one, algorithm=two, reason=three,
                      signature_start=five)],
        dmarc=DmarcResult("permerror", header_from=four, problem=five),
        arc=replace(ARC, result="fail", instance=1, reason=one),
        iprev=IprevResult("fail", two, three, four),
    )  # fmt: skip
    assert re.fullmatch(r"[\x20-\x7e]+", value)
    assert [(method, result) for method, result, _ in read(value)] == [
        ("iprev", "fail"),
        ("spf", "fail"),
        ("dkim", "fail"),
        ("dmarc", "permerror"),
        ("arc", "fail"),
    ]
    field = results_field(value)
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    assert unfold(field).split() == f"Authentication-Results: {value}".encode().split()


def test_folding_puts_one_result_on_a_line_and_breaks_long_ones() -> None:
    field = results_field(write())
    lines = field.decode().split("\r\n")
    assert lines[0] == "Authentication-Results: mx.example.org;"
    assert [line.split("=")[0] for line in lines[1:-1]] == [
        "\tiprev",
        "\tspf",
        "\tdkim",
        "\t header.b",
        "\tdmarc",
        "\tarc",
    ]
    assert lines[-1] == ""
    assert all(len(line) <= 78 for line in lines)
    assert fold("mx.example.org; none") == "mx.example.org;\r\n\tnone"


OURS = frozenset({"mx.example.org", "mx.xn--bcher-kva.example"})


def forged(value: str | bytes, name: bytes = b"Authentication-Results") -> bool:
    octets = value.encode() if isinstance(value, str) else value
    field = HeaderField(name, octets, name + b":" + octets + b"\r\n")
    return strip_forged([field], OURS) == ()


@pytest.mark.parametrize(
    "value",
    [
        " mx.example.org; dkim=pass",
        "mx.example.org;none",
        " MX.Example.ORG; spf=pass",
        " mx.example.org.; spf=pass",
        " mx.example.org 1; spf=pass",
        ' "mx.example.org"; spf=pass',
        ' "mx\\.example.org" 1 ; spf=pass',
        " (hello) mx.example.org; spf=pass",
        " (a (nested \\) one) b) mx.example.org (x) 1 (y); spf=pass",
        "\r\n\tmx.example.org\r\n\t; spf=pass",
        " mx . example (x) . org; spf=pass",
        ' mx."example".org; spf=pass',
        " mx.example.org",
        " mx.bücher.example; spf=pass",
        " MX.XN--BCHER-KVA.example; spf=pass",
    ],
)
def test_a_field_that_bears_our_name_is_forged(value: str) -> None:
    assert forged(value)
    assert forged(value, b"AUTHENTICATION-results")


@pytest.mark.parametrize(
    "value",
    [
        " mx.google.com; spf=pass",
        " notmx.example.org; spf=pass",
        " example.org; spf=pass",
        " mx.example.org.evil.example; spf=pass",
        " mx.other.example; spf=pass (mx.example.org)",
        " (mx.example.org) mx.other.example; spf=pass",
        ' "mx.other.example" 1; spf=pass reason="mx.example.org; x"',
        "",
        ";",
        " (never closed mx.example.org; spf=pass",
    ],
)
def test_what_others_wrote_stays(value: str) -> None:
    assert not forged(value)


def test_other_fields_stay() -> None:
    assert not forged(" i=1; mx.example.org; spf=pass", b"ARC-Authentication-Results")
    assert not forged(" mx.example.org; spf=pass", b"X-Authentication-Results")


def test_only_the_forged_field_goes() -> None:
    raw = (
        b"Received: x\r\nAuthentication-Results: mx.example.org;\r\n spf=pass\r\n"
        b"authentication-results : mx.other.example; spf=pass\r\nSubject: hi\r\n\r\nbody"
    )
    kept = strip_forged(split_message(raw).fields, OURS)
    assert [field.name for field in kept] == [b"Received", b"authentication-results", b"Subject"]


def test_the_octets_around_a_forged_field_stay_as_they_are() -> None:
    before = b"From nobody Fri\nReceived: x\r\n\ty\r\nX-Authentication-Results: mx.example.org; a=b\r\n"
    forgery = b"AUTHENTICATION-Results \t: (c)\r\n\tMX.example.org;\r\n spf=pass\r\n"
    after = b"Subject: hi\nno field\r\nAuthentication-Results: mx.example.org; in=body\r\n"
    raw = before + forgery + after
    assert remove_forged(split_message(raw), OURS) == before + after
    honest = split_message(raw.replace(b"MX.example.org", b"mx.other.example"))
    assert remove_forged(honest, OURS) is honest.raw
    without = split_message(before + after)
    assert remove_forged(without, OURS) is without.raw


def test_a_forged_field_is_found_behind_more_fields_than_are_looked_at() -> None:
    filler = b"X: y\r\n" * (MAX_FIELDS + 5)
    message = split_message(filler + b"Authentication-Results: mx.example.org; spf=pass\r\n\r\nbody")
    assert message.truncated
    assert remove_forged(message, OURS) == filler + b"\r\nbody"


def test_a_message_that_is_one_forged_field() -> None:
    assert remove_forged(split_message(b"Authentication-Results: mx.example.org; spf=pass"), OURS) == b""


@given(st.lists(st.sampled_from([
    b"Authentication-Results: mx.example.org; x\r\n", b"Authentication-Results: mx.other.example; x\r\n",
    b"Subject: a\r\n b\r\n", b"authentication-results:\n \"mx.example.org\";\n",
    b"X: Authentication-Results: mx.example.org\r\n",
]), max_size=8), st.sampled_from([b"", b"\r\n", b"\r\nAuthentication-Results: mx.example.org; x\r\n"]))  # fmt: skip
def test_fields_and_octets_agree_on_what_is_forged(fields: list[bytes], rest: bytes) -> None:
    message = split_message(b"".join(fields) + rest)
    kept = b"".join(field.raw for field in strip_forged(message.fields, OURS))
    assert remove_forged(message, OURS) == kept + rest


def test_the_names_on_a_message_can_be_asked_about() -> None:
    raw = (
        b'Authentication-Results: MX.One.example.; x\r\nauthentication-results: (c) "two.example" 1; y\r\nTo: x\r\n\r\n'
    )
    assert claimed_names(split_message(raw)) == {"mx.one.example", "two.example"}
    assert claimed_names(split_message(b"To: x\r\n\r\nAuthentication-Results: a; b\r\n")) == frozenset()


def test_more_names_than_anyone_can_ask_about_are_not_kept() -> None:
    raw = b"".join(b"Authentication-Results: h%d.example; x\r\n" % number for number in range(500))
    message = split_message(raw)
    assert len(claimed_names(message)) == MAX_IDS
    assert remove_forged(message, frozenset()).count(b"\n") == MAX_IDS


def test_an_id_that_takes_too_much_reading_is_a_claim() -> None:
    assert forged(" " + "(x)" * 1000 + "mx.other.example; spf=pass")
    assert not forged(" mx.other.example (" + "x" * 5000 + "); spf=pass")
    fields = [HeaderField(b"Authentication-Results", b"(x) mx.other.example; spf=pass", b"")] * 1000
    assert 0 < len(strip_forged(fields, OURS)) < 100


@pytest.mark.parametrize("piece", [b"(", b")", b'"', b"\\", b" ", b"(\\", b'"\\', b"()", b".", b". ", b"1 ", b"mx. "])
def test_megabytes_of_anything_are_read_in_linear_time(piece: bytes) -> None:
    fields = [HeaderField(b"Authentication-Results", piece * (1_000_000 // len(piece)), b"")] * 4
    assert len(strip_forged(fields, OURS)) in (0, 4)  # quadratic work would not come to an end


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_octets_are_judged(value: bytes) -> None:
    assert forged(value) in (True, False)
    assert forged(b" mx.example.org; " + value)
