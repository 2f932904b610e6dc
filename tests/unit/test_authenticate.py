"""The joined verdict: real signatures, a scripted zone, and the JSON and the field that come of them."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest

from clawmail.core import authenticate as judging
from clawmail.core.authenticate import MAX_QUESTIONS, Verdict, authenticate
from clawmail.protocol.address import author_domains
from clawmail.protocol.dkim.sign import SigningKey, generate_rsa_key, load_signing_key, sign
from clawmail.protocol.headers import split_message
from clawmail.protocol.iprev import IprevResult
from clawmail.protocol.spf.check import SpfResult
from tests.support.zones import SERVFAIL, ScriptedResolver

NOW = 1_800_000_000
PRIVATE, PUBLIC = generate_rsa_key()
ZONE: dict[str, dict[str, Any]] = {
    "other.com": {"A": ["192.0.2.1"]},
    "mailer.other.com": {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]},
    "default._domainkey.other.com": {"TXT": [PUBLIC]},
    "_dmarc.other.com": {"TXT": ["v=DMARC1; p=reject"]},
}


def key(domain: str = "other.com", selector: str = "default") -> SigningKey:
    return load_signing_key(domain, selector, PRIVATE)


def mail(author: str = "From: Ann <sender@other.com>\r\n", *keys: SigningKey) -> bytes:
    raw = (author + "To: agent@example.org\r\nSubject: Hello\r\n\r\nHi there\r\n").encode()
    return sign(raw, keys, now=NOW) + raw if keys else raw


async def judge(
    raw: bytes,
    zone: dict[str, dict[str, Any]] | ScriptedResolver = ZONE,
    *,
    ip: str | None = "198.51.100.7",
    mail_from: str = "bounce@mailer.other.com",
    helo: str = "out.mailer.other.com",
    **known: Any,
) -> Verdict:
    resolver = zone if isinstance(zone, ScriptedResolver) else ScriptedResolver(zone)
    return await authenticate(
        resolver,
        split_message(raw),
        ip=ip,
        mail_from=mail_from,
        helo=helo,
        hostname="mx.clawmail.org",
        now=NOW,
        **known,
    )


async def test_the_api_shows_a_good_message_as_the_reference_does() -> None:
    verdict = await judge(mail("From: Ann <sender@other.com>\r\n", key()))
    assert verdict.as_api() == {
        "spf": {
            "result": "pass",
            "domain": "mailer.other.com",
            "comment": "mx.clawmail.org: domain of bounce@mailer.other.com designates 198.51.100.7 as permitted sender",
        },
        "dkim": {
            "result": "pass",
            "signatures": [
                {
                    "result": "pass",
                    "signing_domain": "other.com",
                    "selector": "default",
                    "algorithm": "rsa-sha256",
                    "aligned": True,
                }
            ],
        },
        "dmarc": {
            "result": "pass",
            "domain": "other.com",
            "policy": "reject",
            "comment": "p=REJECT",
            "header_from": "other.com",
            "alignment": {
                "spf": {"result": "other.com", "strict": False},
                "dkim": {"result": "other.com", "strict": False, "underSized": False},
            },
        },
    }


async def test_the_field_holds_every_method_once() -> None:
    known = IprevResult("pass", "out.mailer.other.com", "", "198.51.100.7")
    verdict = await judge(mail("From: sender@other.com\r\n", key()), iprev=known)
    value = verdict.authentication_results("mx.clawmail.org")
    assert [clause.split("=")[0] for clause in value.split("; ")] == [
        "mx.clawmail.org",
        "iprev",
        "spf",
        "dkim",
        "dmarc",
        "arc",
    ]
    assert "spf=pass smtp.mailfrom=bounce@mailer.other.com;" in value
    assert "dmarc=pass (p=REJECT) header.from=other.com policy.dmarc=reject;" in value


async def test_a_forged_message_fails_and_says_what_the_owner_wants() -> None:
    verdict = await judge(mail(), ip="203.0.113.9")
    api = verdict.as_api()
    assert api["spf"]["result"] == "fail"
    assert api["dkim"] == {"result": "none", "signatures": []}
    assert (api["dmarc"]["result"], api["dmarc"]["policy"]) == ("fail", "reject")
    assert api["dmarc"]["alignment"]["spf"]["result"] is False
    assert "dkim=none;" in verdict.authentication_results("mx.clawmail.org")


async def test_a_changed_body_is_a_dkim_fail_whose_domain_would_have_aligned() -> None:
    raw = mail("From: sender@other.com\r\n", key()).replace(b"Hi there", b"Hi here")
    verdict = await judge(raw, mail_from="x@unrelated.example")
    assert verdict.dkim_result == "fail"
    assert verdict.aligned(verdict.dkim[0]) is True
    assert verdict.dmarc.result == "fail"


async def test_each_signature_has_its_own_alignment() -> None:
    zone = ZONE | {f"default._domainkey.{name}": {"TXT": [PUBLIC]} for name in ("list.example.net", "mail.other.com")}
    raw = mail("From: sender@other.com\r\n", key("list.example.net"), key("mail.other.com"), key("missing.other.com"))
    verdict = await judge(raw, zone)
    found = {one.signing_domain: (one.result, verdict.aligned(one)) for one in verdict.dkim}
    assert found == {
        "list.example.net": ("pass", False),
        "mail.other.com": ("pass", True),
        "missing.other.com": ("permerror", True),
    }
    assert verdict.dkim_result == "pass"
    assert verdict.dmarc.dkim_aligned == "mail.other.com"


async def test_strict_alignment_counts_for_each_signature() -> None:
    zone = ZONE | {
        "_dmarc.other.com": {"TXT": ["v=DMARC1; p=reject; sp=none; adkim=s"]},
        "default._domainkey.mail.other.com": {"TXT": [PUBLIC]},
    }
    verdict = await judge(mail("From: sender@other.com\r\n", key("mail.other.com")), zone, mail_from="")
    api = verdict.as_api()
    assert api["dkim"]["signatures"][0]["aligned"] is False
    assert api["dmarc"]["alignment"]["dkim"] == {"result": False, "strict": True, "underSized": False}
    assert api["dmarc"]["comment"] == "p=REJECT sp=NONE"


async def test_without_a_record_only_the_same_name_is_aligned() -> None:
    zone = {name: records for name, records in ZONE.items() if name != "_dmarc.other.com"}
    same = await judge(mail("From: sender@other.com\r\n", key()), zone)
    other = await judge(mail("From: sender@sub.other.com\r\n", key()), zone)
    assert [same.aligned(same.dkim[0]), other.aligned(other.dkim[0])] == [True, False]
    assert same.as_api()["dmarc"]["comment"] == "no DMARC record was found"
    assert same.as_api()["dmarc"]["policy"] is None


async def test_the_null_sender_is_judged_by_its_helo() -> None:
    zone = ZONE | {"out.mailer.other.com": {"TXT": ["v=spf1 ip4:198.51.100.7 -all"]}}
    verdict = await judge(mail(), zone, mail_from="")
    assert verdict.dmarc.result == "pass"
    assert verdict.dmarc.spf_aligned == "out.mailer.other.com"
    assert "spf=pass smtp.helo=out.mailer.other.com;" in verdict.authentication_results("mx.clawmail.org")
    assert verdict.spf_comment == (
        "mx.clawmail.org: domain of out.mailer.other.com designates 198.51.100.7 as permitted sender"
    )


@pytest.mark.parametrize(
    ("spf", "comment"),
    [
        (
            SpfResult("fail", "b.example", "mailfrom"),
            "domain of a@b.example does not designate 1.2.3.4 as permitted sender",
        ),
        (
            SpfResult("softfail", "b.example", "mailfrom"),
            "domain of transitioning a@b.example does not designate 1.2.3.4 as permitted sender",
        ),
        (
            SpfResult("neutral", "b.example", "mailfrom"),
            "1.2.3.4 is neither permitted nor denied by domain of a@b.example",
        ),
        (SpfResult("none", "b.example", "mailfrom"), "domain of a@b.example does not provide an SPF record"),
        (
            SpfResult("temperror", "b.example", "mailfrom", problem="no reply"),
            "error in processing during lookup of a@b.example: no reply",
        ),
        (
            SpfResult("permerror", "b.example", "mailfrom", problem="two records"),
            "permanent error in processing domain of a@b.example: two records",
        ),
    ],
)
async def test_spf_in_a_sentence(spf: SpfResult, comment: str) -> None:
    verdict = await judge(mail(), {}, ip="1.2.3.4", mail_from="a@b.example", spf=spf)
    assert verdict.as_api()["spf"] == {
        "result": spf.result,
        "domain": "b.example",
        "comment": f"mx.clawmail.org: {comment}",
    }


@pytest.mark.parametrize(
    "author",
    [
        "From: a@other.com\r\nFrom: b@other.com\r\n",
        "From: a@other.com, b@example.net\r\n",
        "From: friends:;\r\n",
        "From: nobody\r\n",
        "",
    ],
    ids=["two fields", "two domains", "empty group", "no domain", "no From"],
)
async def test_without_exactly_one_author_domain_dmarc_is_a_permerror(author: str) -> None:
    verdict = await judge(mail(author or "X-Other: 1\r\n"))
    assert verdict.dmarc.result == "permerror"
    assert verdict.dmarc.policy is None
    assert verdict.dmarc.problem


async def test_a_group_and_several_authors_of_one_domain_are_fine() -> None:
    verdict = await judge(mail("From: team: a@other.com, B <b@OTHER.com>;\r\nSender: a@other.com\r\n", key()))
    assert (verdict.dmarc.result, verdict.dmarc.header_from) == ("pass", "other.com")


async def test_a_from_with_a_space_before_its_colon_is_no_mbox_line() -> None:
    verdict = await judge(mail("From : sender@other.com\r\n", key()))
    assert (verdict.dmarc.result, verdict.dmarc.header_from) == ("pass", "other.com")


async def test_what_the_session_knows_is_not_asked_again() -> None:
    resolver = ScriptedResolver(ZONE)
    known = SpfResult("pass", "mailer.other.com", "mailfrom")
    verdict = await judge(mail(), resolver, spf=known)
    assert verdict.spf is known
    assert [name for _, name in resolver.asked] == [
        "_dmarc.other.com",
        "_dmarc.com",
        "_dmarc.mailer.other.com",
    ]


async def test_without_a_client_address_spf_is_left_out() -> None:
    verdict = await judge(mail("From: sender@other.com\r\n", key()), ip=None)
    assert verdict.spf is None
    assert verdict.dmarc.result == "pass"
    assert "spf=" not in verdict.authentication_results("mx.clawmail.org")
    assert verdict.as_api()["spf"]["result"] == "none"


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"no header at all", b"\xff\x00\xfe" * 100, b"From:\r\n\r\n"])
async def test_any_message_gets_a_verdict(raw: bytes) -> None:
    verdict = await judge(raw)
    assert verdict.dkim == ()
    assert verdict.dmarc.result == "permerror"
    assert verdict.arc.result == "none"


async def test_what_strangers_wrote_can_be_stored_and_is_not_endless() -> None:
    raw = b"DKIM-Signature: v=1; d=a\xff; s=\xc3; a=x\r\nFrom: a@b\x00c" + b"d" * 50_000 + b"\r\n\r\n"
    api = (await judge(raw, {}, mail_from="a\x00\ud800@b\x07.example")).as_api()
    texts = json.dumps(api, ensure_ascii=False)
    texts.encode()
    assert len(texts) < 5_000
    assert not re.search(r"\\u00[01]|[\x00-\x1f\x7f-\x9f]", texts)


async def test_a_dns_that_fails_makes_temperrors_not_failures() -> None:
    zone = {name: {"*": SERVFAIL} for name in ZONE}
    verdict = await judge(mail("From: sender@other.com\r\n", key()), zone)
    assert verdict.spf is not None
    assert [verdict.spf.result, verdict.dkim_result, verdict.dmarc.result] == ["temperror"] * 3


@pytest.mark.parametrize(
    ("record", "sender", "unknown", "expected"),
    [
        ("v=DMARC1; p=reject", "nobody@else.example", "default._domainkey.other.com", "temperror"),
        ("v=DMARC1; p=reject", "bounce@mailer.other.com", "default._domainkey.other.com", "pass"),
        ("v=DMARC1; p=reject", "bounce@other.com", "other.com", "temperror"),
        ("v=DMARC1; p=reject", "bounce@mailer.other.com", "mailer.other.com", "temperror"),
        ("v=DMARC1; p=reject; aspf=s", "bounce@mailer.other.com", "mailer.other.com", "fail"),
        ("v=DMARC1; p=reject", "nobody@else.example", "else.example", "fail"),
    ],
)
async def test_what_could_have_been_a_pass_is_no_fail(record: str, sender: str, unknown: str, expected: str) -> None:
    by_key = unknown.startswith("default")
    raw = mail("From: sender@other.com\r\n", *([key()] if by_key else []))
    zone = ZONE | {"_dmarc.other.com": {"TXT": [record]}, unknown: {"TXT": SERVFAIL}}
    verdict = await judge(raw, zone, mail_from=sender)
    assert (verdict.dmarc.result, verdict.dmarc.policy) == (expected, None if expected == "temperror" else "reject")


async def test_one_message_costs_at_most_fifty_questions() -> None:
    signed = "".join(
        f"DKIM-Signature: v=1; a=rsa-sha256; d=s{n}.other.com; s=x; h=from; bh=eA==; b=eA==\r\n" for n in range(5000)
    )
    mx = [f"{n} mx{n}.evil.example" for n in range(10)]
    zone = ZONE | {
        "evil.example": {"TXT": ["v=spf1 " + " ".join(f"mx:m{n}.evil.example" for n in range(10)) + " -all"]},
        **{f"m{n}.evil.example": {"MX": mx} for n in range(10)},
        **{f"mx{n}.evil.example": {"A": ["192.0.2.1"]} for n in range(10)},
    }
    resolver = ScriptedResolver(zone)
    verdict = await judge((signed + "From: a@other.com\r\n\r\nhi").encode(), resolver, mail_from="x@evil.example")
    assert len(resolver.asked) <= MAX_QUESTIONS
    assert [signature.result for signature in verdict.dkim] == ["permerror"] * 8
    # What the sender made SPF and DKIM cost does not keep the author's policy from being read.
    assert (verdict.dmarc.result, verdict.dmarc.policy) == ("fail", "reject")


async def test_an_author_behind_much_padding_is_judged_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_in: list[threading.Thread] = []

    def look(fields: list[bytes]) -> list[str]:
        looked_in.append(threading.current_thread())
        return author_domains(fields)

    monkeypatch.setattr(judging, "author_domains", look)
    for padding in (10, 100_000):
        verdict = await judge(mail(f"From: ({'x' * padding}) Ann <sender@other.com>\r\n"), mail_from="a@elsewhere.test")
        assert (verdict.dmarc.header_from, verdict.dmarc.result) == ("other.com", "fail")
    assert [thread is threading.main_thread() for thread in looked_in] == [True, False]
