"""Key records: RFC 6376 section 3.6.1, RFC 8301 section 3.2 and RFC 8463 section 4, one rule at a time."""

from __future__ import annotations

import base64

import pytest

from tests.support.signatures import TextbookRsa, craft
from tests.support.zones import SERVFAIL, Records
from tests.unit.test_dkim_verify import EDWARDS, MESSAGE, OTHER, RSA, judge


@pytest.mark.parametrize(
    ("records", "result", "reason"),
    [
        ((), "permerror", "no key"),
        (SERVFAIL, "temperror", "looked up"),
        ([""], "permerror", "malformed"),
        (["v=DKIM1; p="], "permerror", "revoked"),
        (["v=DKIM1; k=rsa"], "permerror", "no key (p=)"),
        (["v=DKIM1; p=AAAA"], "permerror", "not of the type"),
        (["v=DKIM1; p=%%%"], "permerror", "not of the type"),
        ([EDWARDS.record()], "permerror", "not one for rsa-sha256"),
        ([RSA.record("v=DKIM2; ")], "permerror", "version"),
        ([RSA.record("") + "; v=DKIM1"], "permerror", "version"),
        ([RSA.record("")], "pass", ""),
        ([RSA.record("v = DKIM1;\t")], "pass", ""),
        ([RSA.record("n=a note; g=*; x_new=1; ")], "pass", ""),
        ([RSA.record("h=sha1; ")], "permerror", "SHA-256"),
        ([RSA.record("h=sha1:sha256; ")], "pass", ""),
        ([RSA.record("s=other; ")], "permerror", "not for mail"),
        ([RSA.record("s=tlsrpt; ")], "permerror", "not for mail"),
        ([RSA.record("s=tlsrpt:email; ")], "pass", ""),
        ([RSA.record("s=email; ")], "pass", ""),
        ([RSA.record("s=*; ")], "pass", ""),
        ([RSA.record("t=s; ")], "pass", ""),
        ([RSA.record().replace("k=rsa", "k=dsa")], "permerror", "key type"),
        ([OTHER.record()], "fail", "does not fit"),
        # several records: each is tried, and the reason is that of the closest
        (["junk", "v=DKIM1; p=", OTHER.record(), RSA.record()], "pass", ""),
        ([OTHER.record(), "v=DKIM1; p="], "fail", "does not fit"),
        ([TextbookRsa.read("rsa512").record(), "v=DKIM1; p="], "policy", "512 bits"),
        # what is no key takes no key's place, up to a limit
        (["x"] * 19 + [RSA.record()], "pass", ""),
        (["x"] * 20 + [RSA.record()], "permerror", "malformed"),
        ([OTHER.record()] * 4 + [RSA.record()], "pass", ""),
        ([OTHER.record()] * 5 + [RSA.record()], "fail", "does not fit"),
        ([RSA.record() + "; n=" + "x" * 65_000], "permerror", "more than"),
    ],
)
async def test_key_records(records: Records, result: str, reason: str) -> None:
    judged = await judge(craft(MESSAGE, RSA), records)
    assert judged.result == result, judged.reason
    assert reason in judged.reason


async def test_a_key_in_the_form_of_the_rfc() -> None:
    record = f"v=DKIM1; p={base64.b64encode(RSA.public_key()).decode()}"
    assert (await judge(craft(MESSAGE, RSA), [record])).result == "pass"


@pytest.mark.parametrize(("key", "bits"), [("rsa512", 512), ("rsa1023", 1023), ("rsa8200", 8200)])
async def test_key_sizes_we_do_not_accept(key: str, bits: int) -> None:
    weak = TextbookRsa.read(key)
    judged = await judge(craft(MESSAGE, weak), [weak.record()])
    assert (judged.result, judged.key_bits) == ("policy", bits)


async def test_keys_that_would_cost_too_much() -> None:
    huge = TextbookRsa((1 << 16_383) + 1, 1)
    assert (await judge(craft(MESSAGE, RSA), [huge.record()])).result == "policy"
    slow = TextbookRsa(RSA.n, RSA.d, (1 << 2040) + 1)
    judged = await judge(craft(MESSAGE, RSA), [slow.record()])
    assert judged.result == "permerror" and "exponent" in judged.reason


async def test_testing_and_strict_flags() -> None:
    record = RSA.record("t=x : y : s; ")
    assert (await judge(craft(MESSAGE, RSA), [record])).testing
    subdomain = await judge(craft(MESSAGE, RSA, {"i": "@sub.example.com"}), [record])
    assert subdomain.result == "permerror" and "t=s" in subdomain.reason and subdomain.testing
