"""Makes the DKIM goldens: ``python -m tests.golden.dkim.make``. What is expected is stated here, not computed."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.golden.write import NOW, write_golden
from tests.support.signatures import EdwardsKey, TextbookRsa, craft

HERE = Path(__file__).parent
RSA = TextbookRsa.read("rsa2048")
OTHER = TextbookRsa.read("other2048")
WEAK = TextbookRsa.read("rsa512")
EDWARDS = EdwardsKey(bytes(range(32)))

NAME = "sel._domainkey.example.com"
MESSAGE = (
    b"Received: from mail.example.com by mx.example.org; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"From: Ann Example <ann@example.com>\r\nTo: bob@example.org\r\nSubject: lunch on\r\n Thursday?\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:19 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n"
    b"Hello Bob,\r\n\r\nhow about  one o'clock?\r\n\r\nAnn\r\n"
)


def make(
    name: str,
    odd: str,
    message: bytes,
    *results: str | dict[str, object],
    records: list[str] | str | None = None,
    zone: dict[str, object] | None = None,
) -> None:
    """One golden; the key's record is ``RSA``'s unless ``records`` or a whole ``zone`` say otherwise."""
    if zone is None:
        zone = {} if records == [] else {NAME: {"TXT": [RSA.record()] if records is None else records}}
    expected = [{"result": result} if isinstance(result, str) else result for result in results]
    write_golden(HERE / name, odd, message, zone, expected)


def the_message() -> None:
    """What happened to the message on its way."""
    signed = craft(MESSAGE, RSA)
    plain = {"signing_domain": "example.com", "selector": "sel", "algorithm": "rsa-sha256", "key_bits": 2048}
    make("unsigned", "No signature at all.", MESSAGE)
    make("plain", "Nothing is odd.", signed, {"result": "pass", **plain, "identity": "@example.com", "reason": ""})
    make(
        "ed25519-beside-rsa",
        "Two algorithms, two keys (RFC 8463).",
        craft(craft(MESSAGE, RSA), EDWARDS, {"s": "ed"}),
        {"result": "pass", "algorithm": "ed25519-sha256", "key_bits": 256},
        {"result": "pass", **plain},
        zone={NAME: {"TXT": [RSA.record()]}, "ed._domainkey.example.com": {"TXT": [EDWARDS.record()]}},
    )
    make("body-changed", "One letter of the body.", signed.replace(b"Hello", b"hello"), "fail")
    make("subject-changed", "A list put its tag in front.", signed.replace(b"lunch", b"[list] lunch"), "fail")
    make(
        "refolded",
        "Folded anew, names in other case: relaxed does not mind.",
        signed.replace(b"Subject: lunch on\r\n Thursday?", b"SUBJECT:\r\n\tlunch\r\n on Thursday?  "),
        "pass",
    )
    make(
        "refolded-simple",
        "The same under simple.",
        craft(MESSAGE, RSA, {"c": "simple/relaxed"}).replace(b"\r\n Thu", b" Thu"),
        "fail",
    )
    make(
        "blank-lines-added",
        "Empty lines at the end are never signed.",
        craft(MESSAGE, RSA, {"c": "simple/simple"}) + b"\r\n\r\n",
        "pass",
    )
    make(
        "blanks-in-simple-body",
        "A space at the end of a line, under simple.",
        craft(MESSAGE, RSA, {"c": "simple"}).replace(b"Ann\r\n", b"Ann \r\n"),
        "fail",
    )


def the_header() -> None:
    """Fields added or written oddly."""
    signed = craft(MESSAGE, RSA)
    make(
        "second-from-on-top",
        "Not oversigned: DKIM passes, and DMARC must deal with two authors.",
        b"From: eve@example.net\r\n" + signed,
        "pass",
    )
    make(
        "oversigned-from",
        "A From added where From was signed twice.",
        b"From: eve@example.net\r\n" + craft(MESSAGE, RSA, {"h": "from:from:to:subject"}),
        "fail",
    )
    make(
        "space-before-colon",
        "Obsolete syntax of RFC 5322 section 4.5.",
        craft(MESSAGE.replace(b"To:", b"To :"), RSA),
        "pass",
    )
    make(
        "header-only",
        "The message ends with its header.",
        craft(b"From: a@example.com\r\n\r\n", RSA).removesuffix(b"\r\n"),
        "pass",
    )


def the_signature() -> None:
    """What the field says."""
    make("from-unsigned", "h= leaves From out.", craft(MESSAGE, RSA, {"h": "to:subject"}), "permerror")
    make(
        "footer-behind-l",
        "A list added a footer behind what l= covers.",
        craft(MESSAGE, RSA, {"l": "45"}) + b"-- \r\nfooter\r\n",
        {"result": "policy", "limited": True},
    )
    make(
        "l-beyond-body",
        "l= is larger than the body.",
        craft(MESSAGE, RSA, {"l": "4500"}),
        {"result": "fail", "limited": True},
    )


def the_promises() -> None:
    """What the field says of time, algorithm and identity."""
    make("expired", "x= has passed.", craft(MESSAGE, RSA, {"x": str(NOW - 86_400)}), "fail")
    make("from-the-future", "t= is tomorrow.", craft(MESSAGE, RSA, {"t": str(NOW + 86_400)}), "fail")
    make(
        "sha1",
        "RFC 8301 forbids rsa-sha1.",
        craft(MESSAGE, RSA, {"a": "rsa-sha1"}),
        {"result": "policy", "key_bits": None},
    )
    make(
        "tag-twice",
        "s= is given twice, which spoils the whole list.",
        craft(MESSAGE, RSA).replace(b"s=sel;", b"s=sel; s=sel;"),
        {"result": "permerror", "signing_domain": ""},
    )
    make(
        "subdomain-identity",
        "i= is below d=.",
        craft(MESSAGE, RSA, {"i": "ann@mail.example.com"}),
        {"result": "pass", "identity": "ann@mail.example.com"},
    )
    make("foreign-identity", "i= is not below d=.", craft(MESSAGE, RSA, {"i": "ann@badexample.com"}), "permerror")
    make(
        "u-labels",
        "d= and s= hold U-labels (RFC 8616).",
        craft(MESSAGE, RSA, {"d": "bücher.example", "s": "schlüssel"}),
        {"result": "pass", "signing_domain": "xn--bcher-kva.example"},
        zone={"xn--schlssel-95a._domainkey.xn--bcher-kva.example": {"TXT": [RSA.record()]}},
    )
    make(
        "query-methods",
        "q= offers an unknown way to get the key, and the usual one.",
        craft(MESSAGE, RSA, {"q": "x-web/get:dns/txt"}),
        "pass",
    )


def several_signatures() -> None:
    """Each is judged on its own."""
    raw = craft(MESSAGE, OTHER)
    for _ in range(8):
        raw = craft(raw, RSA, {"h": "from"})
    make("nine-signatures", "Only the topmost eight are judged.", raw, *["pass"] * 8)
    bad = craft(craft(MESSAGE, RSA), OTHER, {"d": "example.net"})
    make(
        "first-bad-second-good",
        "The topmost does not fit its key; that says nothing about the next.",
        bad,
        {"result": "fail", "signing_domain": "example.net"},
        {"result": "pass", "signing_domain": "example.com"},
        zone={NAME: {"TXT": [RSA.record()]}, "sel._domainkey.example.net": {"TXT": [RSA.record()]}},
    )


def the_key() -> None:
    """What the DNS says."""
    signed = craft(MESSAGE, RSA)
    make("no-key", "NXDOMAIN.", signed, "permerror", records=[])
    make("key-servfail", "The name server does not answer.", signed, "temperror", records="SERVFAIL")
    make("key-revoked", "p= is empty.", signed, "permerror", records=["v=DKIM1; p="])
    make(
        "key-weak",
        "A key of 512 bits; the signature is good.",
        craft(MESSAGE, WEAK),
        {"result": "policy", "key_bits": 512},
        records=[WEAK.record()],
    )


def the_flags() -> None:
    """What else the key's record says."""
    signed = craft(MESSAGE, RSA)
    make(
        "key-testing",
        "t=y: the domain is testing.",
        signed,
        {"result": "pass", "testing": True},
        records=[RSA.record("v=DKIM1; t=y; ")],
    )
    make(
        "key-strict",
        "t=s and i= below d=.",
        craft(MESSAGE, RSA, {"i": "@mail.example.com"}),
        "permerror",
        records=[RSA.record("v=DKIM1; t=s; ")],
    )
    make("key-sha1-only", "h=sha1 in the key.", signed, "permerror", records=[RSA.record("v=DKIM1; h=sha1; ")])
    make(
        "key-for-reports",
        "s=tlsrpt: not a key for mail.",
        signed,
        "permerror",
        records=[RSA.record("v=DKIM1; s=tlsrpt; ")],
    )
    make(
        "key-for-reports-and-mail", "s=tlsrpt:email.", signed, "pass", records=[RSA.record("v=DKIM1; s=tlsrpt:email; ")]
    )
    make(
        "keys-several",
        "Another's record, a revoked key and the right one at one name.",
        signed,
        "pass",
        records=[OTHER.record(), "v=DKIM1; p=", RSA.record()],
    )
    make("key-of-another", "The record holds another key.", signed, "fail", records=[OTHER.record()])
    make(
        "key-version-last",
        "v= must come first in a key record.",
        signed,
        "permerror",
        records=[RSA.record("") + "; v=DKIM1"],
    )
    make(
        "key-pkcs1",
        "p= is an RSAPublicKey, as the RFC says and nobody writes.",
        signed,
        "pass",
        records=[f"p={base64.b64encode(RSA.public_key()).decode()}"],
    )
    make(
        "key-behind-cname",
        "A mail service keeps the key.",
        signed,
        "pass",
        zone={NAME: {"CNAME": ["key.service.example"]}, "key.service.example": {"TXT": [RSA.record()]}},
    )


if __name__ == "__main__":
    for group in (the_message, the_header, the_signature, the_promises, several_signatures, the_key, the_flags):
        group()
