"""Fuzzing the whole judgement of a message: its header and body, its envelope and the zone are a stranger's.

Invariants: no exception; at most fifty questions; the Authentication-Results value holds each method exactly once (DKIM
once a signature) when an independent reader parses it; and the API's object can be stored as JSON by PostgreSQL.
"""

from __future__ import annotations

import json
from collections import Counter

import authres
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.core.authenticate import MAX_QUESTIONS, authenticate
from clawmail.protocol.headers import split_message
from clawmail.protocol.iprev import check_iprev
from tests.support.zones import SERVFAIL, ScriptedResolver

domain = st.sampled_from(
    ["a.example", "b.a.example", "evil.example", "é.example", "x..y", "[192.0.2.1]", "", "a b", "\x00"]
)
good_address = st.sampled_from(["a@a.example", "x@b.a.example", "y@evil.example"])
word = st.one_of(st.text(max_size=12), st.sampled_from(["; dkim=pass", '"', "(", "\\", "a@b", "=", "\r\n x"]))
address = st.one_of(good_address, st.builds("{}@{}".format, word, domain))
tag = st.builds(
    "{}={}".format,
    st.sampled_from(["v", "a", "d", "s", "h", "b", "bh", "c", "i", "l", "q", "t", "x", "z", "cv"]),
    st.one_of(
        st.sampled_from(["1", "rsa-sha256", "a.example", "s", "from", "eA==", "relaxed", "0", "none", "pass"]), word
    ),
)
tags = st.lists(tag, max_size=10).map("; ".join)
author = st.one_of(
    st.builds("From: {}".format, good_address),
    st.builds("From: {}".format, address),
    st.builds("From: x: {}, <{}>;".format, address, address),
)
field = st.one_of(
    st.builds("{}: {}".format, st.sampled_from(["DKIM-Signature", "ARC-Seal", "ARC-Message-Signature"]), tags),
    st.builds("ARC-Authentication-Results: i={}; {}".format, st.integers(0, 60), word),
    st.builds("{}:{}".format, word, word),
)
good_signature = "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=eA==; b=eA=="
fields = st.builds(
    lambda before, author, after: [author, *before, *after],
    st.lists(st.one_of(field, st.just(good_signature)), max_size=4),
    st.one_of(author, author, author, field),
    st.lists(st.one_of(field, field, field, author), max_size=2),
)
messages = st.builds(
    lambda fields, end, body: "\r\n".join(fields).encode("utf-8", "surrogateescape") + end + body,
    fields,
    st.sampled_from([b"", b"\r\n\r\n", b"\n\n", b"\r\n"]),
    st.binary(max_size=40),
)
txt = st.one_of(
    st.sampled_from([
        "v=spf1 a mx ptr include:a.example exists:%{l}.%{d} -all", "v=spf1 redirect=b.a.example", "v=DMARC1; p=reject",
        "v=DMARC1; p=none; psd=y", "v=DKIM1; p=", "v=DKIM1; p=eA==", "k=rsa; p=\x00",
    ]),
    st.text(max_size=20).map(lambda text: "v=spf1 " + text),
    st.text(max_size=20).map(lambda text: "v=DMARC1; p=none; " + text),
)  # fmt: skip
name = st.sampled_from([
    "a.example", "b.a.example", "evil.example", "_dmarc.a.example", "_dmarc.example", "s._domainkey.a.example",
    "_dmarc.evil.example", "1.2.0.192.in-addr.arpa",
])  # fmt: skip
records = st.fixed_dictionaries(
    {},
    optional={
        "TXT": st.one_of(
            st.just(SERVFAIL), st.lists(txt.map(lambda text: text.encode("utf-8", "replace")), min_size=1, max_size=2)
        ),
        "A": st.one_of(st.just(SERVFAIL), st.just(["192.0.2.1"])),
        "PTR": st.lists(
            st.sampled_from(["a.example", "evil.example", 'x"y.example', "é; a=b"]), min_size=1, max_size=3
        ),
        "MX": st.just(["10 a.example", "20 b.a.example"]),
    },
)


@given(
    messages,
    st.dictionaries(name, records, min_size=2, max_size=8),
    address,
    word,
    st.sampled_from(["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "banana", None]),
)
@settings(max_examples=250)
async def test_any_message_from_anyone_gets_a_sound_verdict(
    raw: bytes, zone: dict[str, dict[str, list[str]]], mail_from: str, helo: str, ip: str | None
) -> None:
    resolver = ScriptedResolver(zone)
    iprev = await check_iprev(resolver, ip) if ip else None
    resolver.asked.clear()
    verdict = await authenticate(
        resolver,
        split_message(raw),
        ip=ip,
        mail_from=mail_from,
        helo=helo,
        hostname="mx.example.org",
        now=1_800_000_000,
        iprev=iprev,
    )
    assert len(resolver.asked) <= MAX_QUESTIONS

    value = verdict.authentication_results("mx.example.org")
    header = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {value}")
    seen = Counter(clause.method for clause in header.results)
    expected = {"dkim": max(1, len(verdict.dkim)), "dmarc": 1, "arc": 1} | ({"spf": 1, "iprev": 1} if ip else {})
    assert seen == expected

    text = json.dumps(verdict.as_api(), ensure_ascii=False)
    text.encode("utf-8")
    assert "\\u0000" not in text
