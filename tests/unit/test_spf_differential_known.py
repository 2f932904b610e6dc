"""Where Clawmail and pyspf disagree about SPF on purpose: what each says, who is right, and by which section."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.pyspf_judge import judge_with_ours, judge_with_pyspf
from tests.support.zones import SERVFAIL


class Disagreement(NamedTuple):
    """One kind: what each says, and who is right."""

    name: str
    reason: str
    record: str
    ours: str
    theirs: str
    #: the zone beside the record, which is that of example.org.
    around: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
    mail_from: str = "alice@example.org"


PTR = "10.2.0.192.in-addr.arpa"

DISAGREEMENTS = [
    Disagreement(
        "include-self",
        "RFC 7208 4.6.4 ends a loop by the ten look-ups, and only when it is reached; pyspf refuses the record.",
        "v=spf1 ip4:192.0.2.10 include:example.org -all",
        "pass",
        "permerror",
    ),
    Disagreement(
        "mx-late-host",
        "A match of the first host decides (RFC 7208 5.4); pyspf asks for all hosts before it compares any.",
        "v=spf1 mx -all",
        "pass",
        "temperror",
        {
            "example.org": {"MX": ["1 a.example.net", "2 b.example.net"]},
            "a.example.net": {"A": ["192.0.2.10"]},
            "b.example.net": {"A": SERVFAIL},
        },
    ),
    Disagreement(
        "macro-unfinished",
        "A % that begins no macro is a syntax error (RFC 7208 7.1); pyspf's pattern misses an unclosed brace.",
        "v=spf1 ip4:192.0.2.10 exists:%{d.example.net -all",
        "permerror",
        "pass",
    ),
    Disagreement(
        "macro-zero",
        "The number of labels is nonzero (RFC 7208 7.3); pyspf does not check it.",
        "v=spf1 ip4:192.0.2.10 exists:%{v0}.example.net -all",
        "permerror",
        "pass",
    ),
    Disagreement(
        "exists-bare",
        "exists wants a domain (RFC 7208 5.7); pyspf forgets it behind a qualifier.",
        "v=spf1 ip4:192.0.2.10 ?exists -all",
        "permerror",
        "pass",
    ),
    Disagreement(
        "unknown-modifier-letter",
        "The grammar lets an unknown modifier hold any macro, and it is to be ignored (RFC 7208 6); pyspf objects.",
        "v=spf1 ip4:192.0.2.10 moo=%{r} -all",
        "pass",
        "permerror",
    ),
    Disagreement(
        "unknown-modifier-twice",
        "Only redirect and exp may not repeat (RFC 7208 6); pyspf wants every modifier once.",
        "v=spf1 ip4:192.0.2.10 moo=1 moo=2 -all",
        "pass",
        "permerror",
    ),
    Disagreement(
        "modifier-case",
        "Names in the grammar are case-insensitive (RFC 5234 2.3); pyspf takes Redirect= for unknown.",
        "v=spf1 Redirect=_spf.example.net",
        "pass",
        "neutral",
        {"_spf.example.net": {"TXT": ["v=spf1 ip4:192.0.2.10 -all"]}},
    ),
    Disagreement(
        "ptr-servfail",
        "A DNS error of the PTR question is no match (RFC 7208 5.5); pyspf gives up.",
        "v=spf1 ptr ip4:192.0.2.10 -all",
        "pass",
        "temperror",
        {PTR: {"PTR": SERVFAIL}},
    ),
    Disagreement(
        "ptr-host-servfail",
        "A name whose address question fails is skipped (RFC 7208 5.5); pyspf gives up.",
        "v=spf1 ptr -all",
        "pass",
        "temperror",
        {
            PTR: {"PTR": ["a.example.org", "b.example.org"]},
            "a.example.org": {"A": SERVFAIL},
            "b.example.org": {"A": ["192.0.2.10"]},
        },
    ),
    Disagreement(
        "ptr-void",
        "The client writes its own PTR records; pyspf counts their dead names as void look-ups of the domain's record, "
        "and so lets the client turn a fail into an error (RFC 7208 4.6.4 speaks of terms).",
        "v=spf1 ptr -all",
        "fail",
        "permerror",
        {PTR: {"PTR": ["a.example.org", "b.example.org", "c.example.org"]}},
    ),
    Disagreement(
        "macro-p-void",
        "The void look-ups are those of terms (RFC 7208 4.6.4); pyspf counts the PTR question of a macro besides.",
        "v=spf1 exists:%{p}.example.org a:gone.example.org ~all",
        "softfail",
        "permerror",
    ),
    Disagreement(
        "redirect-counted-unused",
        "A redirect that is never followed costs no look-up (RFC 7208 4.6.4, 6.1); pyspf counts it when it reads it.",
        "v=spf1 " + "a:h.example.net " * 10 + "?all redirect=example.net",
        "neutral",
        "permerror",
        {"h.example.net": {"A": ["198.51.100.1"]}},
    ),
    Disagreement(
        "one-label",
        "A name of one label is no domain to check (RFC 7208 4.3), so this include is an error; pyspf asks for it.",
        "v=spf1 include:%{d1} -all",
        "permerror",
        "pass",
        {"org": {"TXT": ["v=spf1 ip4:192.0.2.10 -all"]}},
    ),
    Disagreement(
        "name-too-long",
        "Labels fall off the left until the name fits in 253 characters (RFC 7208 7.3); pyspf drops one label only.",
        "v=spf1 exists:%{l}." + "x" * 50 + ".example.net -all",
        "pass",
        "fail",
        {"k." + ("y" * 62 + ".") * 2 + "z" * 55 + "." + "x" * 50 + ".example.net": {"A": ["127.0.0.2"]}},
        "g.h." + "w" * 40 + ".k." + ("y" * 62 + ".") * 2 + "z" * 55 + "@example.org",
    ),
    Disagreement(
        "cname-loop",
        "A loop of CNAMEs is a DNS error (RFC 1034 3.6.2), hence temperror (RFC 7208 5); to pyspf it is no records.",
        "v=spf1 a:l1.example.net -all",
        "temperror",
        "fail",
        {"l1.example.net": {"CNAME": ["l2.example.net"]}, "l2.example.net": {"CNAME": ["l1.example.net"]}},
    ),
    Disagreement(
        "two-ats",
        "The domain is behind the last @: a quoted local-part may hold one (RFC 5321 4.1.2); pyspf takes the first.",
        "v=spf1 ip4:192.0.2.10 -all",
        "pass",
        "none",
        {},
        '"a@b"@example.org',
    ),
    Disagreement(
        "local-part-utf8",
        "A local-part outside ASCII matches nothing (RFC 8616 4); pyspf asks for the raw name.",
        "v=spf1 exists:%{l}.example.net -all",
        "fail",
        "pass",
        {"jürgen.example.net": {"A": ["127.0.0.2"]}},
        "jürgen@example.org",
    ),
]


@pytest.mark.parametrize("case", DISAGREEMENTS, ids=lambda case: case.name)
async def test_a_known_disagreement(case: Disagreement) -> None:
    zone = {**case.around, "example.org": {"TXT": [case.record], **case.around.get("example.org", {})}}
    assert (await judge_with_ours(zone, "192.0.2.10", case.mail_from, "mx.example.net"))[0] == case.ours
    assert judge_with_pyspf(zone, "192.0.2.10", case.mail_from, "mx.example.net")[0] == case.theirs
