"""Makes the ARC goldens: ``python -m tests.golden.arc.make``. What is expected is stated here, not computed."""

from __future__ import annotations

from pathlib import Path

from tests.golden.write import write_golden
from tests.support.signatures import TextbookRsa, craft, craft_seal, craft_set

HERE = Path(__file__).parent
RSA = TextbookRsa.read("rsa2048")
NAME = "sel._domainkey.example.com"
MESSAGE = b"From: ann@example.com\r\nTo: bob@example.org\r\nSubject: lunch\r\n\r\nHello Bob\r\n"


def make(name: str, odd: str, message: bytes, records: list[str] | str | None = None, **expected: object) -> None:
    """One golden; ``expected`` are fields of the result."""
    zone = {NAME: {"TXT": [RSA.record()] if records is None else records}}
    write_golden(HERE / name, odd, message, zone, expected)


def main() -> None:
    one = craft_set(MESSAGE, RSA, 1)
    two = craft_set(one, RSA, 2, "list.example.com; arc=pass")
    three = craft_set(two.replace(b"Subject: lunch", b"Subject: [list] lunch"), RSA, 3)
    make("none", "No set at all.", MESSAGE, result="none", instance=0)
    make("one-set", "A forwarder that changed nothing.", one, result="pass", instance=1, oldest_pass=0)
    make("two-sets", "Two forwarders.", two, result="pass", instance=2, sealers=["example.com"] * 2)
    make("changed-before-last", "The third hop changed the Subject and sealed.", three, result="pass", oldest_pass=3)
    make("changed-after-last", "Changed after the last seal.", two.replace(b"Hello", b"hello"), result="fail")
    make(
        "results-forged",
        "Someone improved what the first hop had seen.",
        two.replace(b"i=1; mx.example.com; spf=pass", b"i=1; mx.example.com; dkim=pass"),
        result="fail",
        instance=2,
    )
    make("gap", "Instance 2 follows none.", craft_set(MESSAGE, RSA, 2), result="fail")
    make("two-seals", "A seal is there twice.", one.partition(b"\r\n")[0] + b"\r\n" + one, result="fail")
    make(
        "no-results",
        "The set has no ARC-Authentication-Results.",
        one.replace(b"ARC-Authentication-Results", b"X-Results"),
        result="fail",
    )
    make(
        "seal-with-h",
        "A seal must not have h=.",
        one.replace(b"ARC-Seal: i=1;", b"ARC-Seal: i=1; h=from;"),
        result="fail",
    )
    unsealed = craft(
        b"ARC-Authentication-Results: i=1; mx.example.com; none\r\n" + MESSAGE,
        RSA,
        {"v": None, "i": "1"},
        name="ARC-Message-Signature",
    )
    make("first-says-pass", "The first seal says cv=pass.", craft_seal(unsealed, RSA, 1, {"cv": "pass"}), result="fail")
    make(
        "ended",
        "The newest seal says cv=fail.",
        craft_seal(unsealed, RSA, 1, {"cv": "fail"}),
        result="fail",
        ended=True,
    )
    make("key-servfail", "The name server does not answer.", two, "SERVFAIL", result="temperror", instance=2)
    make("key-revoked", "p= is empty.", two, ["v=DKIM1; p="], result="fail", instance=2)
    many = MESSAGE
    for instance in range(1, 51):
        many = craft_set(many, RSA, instance)
    make("fifty-sets", "As many as there may be.", many, result="pass", instance=50, oldest_pass=0)
    make("fifty-one-sets", "One more than there may be.", craft_set(many, RSA, 51), result="fail", instance=50)


if __name__ == "__main__":
    main()
