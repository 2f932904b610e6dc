"""dkimpy as the independent judge: over generated and mutated messages, every difference has a name.

What we sign dkimpy verifies, what it signs we verify. On messages and key records that were tampered with, both give
a verdict; where they differ, ``explained`` must find the reason among the ones listed there, each with the section that
says who is right. A difference that none of them explains fails the test.
"""

from __future__ import annotations

import base64
import logging
import re
import time

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign
from clawmail.protocol.dkim.verify import DkimResult, verify_dkim
from clawmail.protocol.headers import parse_tag_list, split_message
from tests.support.signatures import EdwardsKey, Key, TextbookRsa, craft
from tests.support.zones import ScriptedResolver

logging.getLogger("dkimpy").setLevel(logging.CRITICAL)

NOW = int(time.time())
RSA_DER, RSA_RECORD = generate_rsa_key()
RSA = load_signing_key("example.com", "sel", RSA_DER)
RSA_PEM = load_der_private_key(RSA_DER, None).private_bytes(
    Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
)
SEED = bytes(range(32))
EDWARDS = load_signing_key(
    "example.com",
    "sel",
    Ed25519PrivateKey.from_private_bytes(SEED).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
)
RECORDS = {"rsa": RSA_RECORD, "ed25519": EDWARDS.public_record()}

WORD = st.text(st.sampled_from("abXY09 \t.,;:=@<>()é"), max_size=12)
FIELD = st.tuples(st.sampled_from(["To", "Subject", "X-Own", "Reply-To", "List-Id", "Sender"]), WORD)
LINES = st.lists(st.text(st.sampled_from("abXY09 \t.=\xe9"), max_size=12), max_size=6)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    fields = [("From", "a@example.com"), *draw(st.lists(FIELD, max_size=6))]
    header = "".join(f"{name}: x{value}\r\n" for name, value in fields).replace(" \t", " \r\n\t")
    # A body whose last line is open is canonicalized differently on purpose; see ``explained``.
    body = "".join(line + "\r\n" for line in draw(LINES))
    return f"{header}\r\n{body}".encode()


def judge_of_dkimpy(raw: bytes, record: str) -> bool | str:
    """Its verdict on the topmost signature: True, False, or the name of what it raised."""

    def answer(name: bytes, timeout: int = 5) -> bytes:
        return record.encode() if name.lower().startswith(b"sel._domainkey.example.com") else b""

    try:
        return bool(dkim.DKIM(raw, logger=logging.getLogger("dkimpy")).verify(dnsfunc=answer))
    except Exception as error:  # noqa: BLE001 (it also lets errors of its parsers through)
        return type(error).__name__


async def judge(raw: bytes, record: str) -> DkimResult:
    resolver = ScriptedResolver({"sel._domainkey.example.com": {"TXT": [record]}})
    return (await verify_dkim(split_message(raw), resolver, now=NOW))[0]


@settings(max_examples=100)
@given(messages(), st.sampled_from(["rsa", "ed25519"]))
async def test_what_we_sign_dkimpy_verifies(message: bytes, kind: str) -> None:
    raw = sign(message, [RSA if kind == "rsa" else EDWARDS], now=NOW) + message
    assert judge_of_dkimpy(raw, RECORDS[kind]) is True
    assert (await judge(raw, RECORDS[kind])).result == "pass"


@settings(max_examples=50)
@given(messages(), st.sampled_from(["simple", "relaxed"]), st.sampled_from(["simple", "relaxed"]), st.booleans())
async def test_what_dkimpy_signs_we_verify(message: bytes, header: str, body: str, rsa: bool) -> None:
    field = dkim.sign(
        message,
        b"sel",
        b"example.com",
        RSA_PEM if rsa else base64.b64encode(SEED),
        canonicalize=(header.encode(), body.encode()),
        signature_algorithm=b"rsa-sha256" if rsa else b"ed25519-sha256",
    )
    result = await judge(field + message, RECORDS["rsa" if rsa else "ed25519"])
    assert (result.result, result.reason) == ("pass", "")


#: the differences that follow from a rule, as (what dkimpy does, who is right), each told by our result and reason.
EXPLAINED = {
    # dkimpy takes l= as a maximum, and knows no policy about what follows it.
    "octets of the body are not signed": "RFC 6376 section 8.2 leaves it to policy; ours is to refuse",
    "the body is shorter than what was signed": "RFC 6376 section 3.5: l= MUST NOT exceed the body; dkimpy is wrong",
    # dkimpy has ten hours of leeway for every clock.
    "in the future": "RFC 6376 section 3.5, t=: MAY be refused; one hour against ten",
    "has expired": "RFC 6376 section 3.5, x=: five minutes of leeway against ten hours",
    "rsa-sha1": "RFC 8301 section 3.1: MUST NOT; dkimpy is wrong",
    "From field is not signed": "RFC 6376 section 5.4: MUST; dkimpy is wrong",
    "t=s": "RFC 6376 section 3.6.1, t=s: MUST; dkimpy is wrong",
    "does not allow SHA-256": "RFC 6376 section 3.6.1, h=: the key's list binds; dkimpy is wrong",
    "not of version DKIM1": "RFC 6376 section 3.6.1: v= MUST be the first tag; dkimpy takes it anywhere",
    "is not a tag name": "RFC 6376 section 3.2: names are ALPHA *ALNUMPUNC; dkimpy checks the beginning only",
    "is not an identity": "RFC 6376 section 3.5, i=: an @ is needed; dkimpy takes '.' before the domain, too",
    "h= is not a list": "RFC 6376 section 3.5, h=: dkimpy takes any octets as a name",
    "it holds control characters": "RFC 6376 section 3.2: VALCHAR; dkimpy takes any octet",
}


def explained(raw: bytes, record: str, ours: DkimResult, theirs: bool | str) -> str:
    """Why the two verdicts may differ; "" when nothing explains it."""
    if re.search(rb"(?<!\r)\n", raw):
        return "dkimpy reads a bare LF as CRLF; RFC 5321 section 2.3.8 knows CRLF alone, and a file is converted before"
    if theirs is True:
        return next((why for reason, why in EXPLAINED.items() if reason in ours.reason), "")
    message = split_message(raw)
    signature = message.first("dkim-signature")
    tags = (parse_tag_list(signature.value) if signature else None) or {}
    signed_authors = [name.strip().lower() for name in tags.get("h", b"").split(b":")].count(b"from")
    if 0 < signed_authors < len(message.all("from")):
        return "dkimpy adds From to h= once more; RFC 6376 section 5.4 leaves an added From to DMARC"
    if any(raw_field.raw.partition(b":")[0] != raw_field.name for raw_field in message.fields):
        return "dkimpy cannot read a space before the colon, which RFC 5322 section 4.5 allows"
    if b"tlsrpt" in record.encode():
        return "dkimpy takes s= as one word; RFC 6376 section 3.6.1 makes it a list"
    if theirs == "MessageFormatError":
        return "dkimpy refuses a whole message for a header line that is none"
    if tags.get("q", b"dns/txt") != b"dns/txt":
        return "dkimpy knows q=dns/txt alone; RFC 6376 section 3.5 makes it a list of which one must be known"
    return ""


#: ways to tamper with a signature that really fits: tags to put over the usual ones.
TAGS = st.sampled_from(
    [
        *[("c", c) for c in (None, "simple", "relaxed", "simple/relaxed", "Relaxed", "a/b")],
        *[
            ("h", h)
            for h in ("from", "from:from", "to:subject", "From : To", "from:x-none:x-own:x-own", "from:subject")
        ],
        *[("i", i) for i in ("@example.com", "a@sub.example.com", "@example.org", "x.example.com", "=41@example.com")],
        *[("l", length) for length in ("0", "1", "2", "5", "1000")],
        *[("t", t) for t in (str(NOW), str(NOW + 20_000), str(NOW + 99_999), "x")],
        *[("x", x) for x in (str(NOW + 500), str(NOW - 20_000), str(NOW - 99_999))],
        *[("q", q) for q in ("dns/txt", "dns", "x:dns/txt")],
        *[("v", v) for v in ("2", None)],
        ("z", "From:x"),
        ("unknown", "y"),
    ]
)
RECORD_EXTRAS = st.sampled_from(
    ["v=DKIM1; ", "", "v=DKIM2; ", "t=s; ", "t=y; ", "s=email; ", "s=tlsrpt:email; ", "s=other; ", "h=sha1; ", "n=x; "]
)


KEYS: st.SearchStrategy[Key] = st.sampled_from([TextbookRsa.read("rsa1024"), EdwardsKey(SEED)])


@st.composite
def tampered(draw: st.DrawFn) -> tuple[bytes, str]:
    """A message with a crafted signature, perhaps changed afterwards, and the key's record."""
    key = draw(KEYS)
    tags = dict(draw(st.lists(TAGS, max_size=2)))
    raw = craft(draw(messages()), key, tags)
    record = key.record(draw(RECORD_EXTRAS)) if isinstance(key, TextbookRsa) else key.record()
    change = draw(st.sampled_from(["none", "none", "octet", "field", "delete", "insert"]))
    if change == "field":
        added = draw(st.sampled_from([b"From: x\r\n", b"To: x\r\n", b"X-New: x\r\n"]))
        raw = added + raw if draw(st.booleans()) else raw.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1)
    elif change != "none":
        index = draw(st.integers(0, len(raw) - 1))
        octet = draw(st.sampled_from([b" ", b"\t", b"x", b"A", b";", b"=", b":", b"/"]))
        raw = raw[:index] + (b"" if change == "delete" else octet) + raw[index + (change != "insert") :]
    return raw, record


@settings(max_examples=300)
@given(tampered())
async def test_every_difference_is_explained(case: tuple[bytes, str]) -> None:
    raw, record = case
    if not split_message(raw).all("dkim-signature"):
        return
    theirs = judge_of_dkimpy(raw, record)
    ours = await judge(raw, record)
    if (ours.result == "pass") != (theirs is True):
        assert explained(raw, record, ours, theirs), (raw, record, ours, theirs)


EXAMPLE = b"From: a@example.com\r\nTo: b@example.org\r\n\r\nHello you\r\n"
KEY = TextbookRsa.read("rsa1024")


@pytest.mark.parametrize(
    ("tags", "old", "new", "extra", "theirs", "ours"),
    [
        ({"l": "3"}, b"", b"", "", True, "policy"),
        ({"l": "1000"}, b"", b"", "", True, "fail"),
        ({"t": str(NOW + 20_000)}, b"", b"", "", True, "fail"),
        ({"x": str(NOW - 20_000)}, b"", b"", "", True, "fail"),
        ({"a": "rsa-sha1"}, b"", b"", "", True, "policy"),
        ({"h": "to"}, b"", b"", "", True, "permerror"),
        ({"i": "@sub.example.com"}, b"", b"", "t=s; ", True, "permerror"),
        ({}, b"", b"", "h=sha1; ", True, "permerror"),
        ({}, b"", b"", "n=x; v=DKIM1; ", True, "permerror"),
        ({"new-tag": "x"}, b"", b"", "", True, "permerror"),
        ({"i": "sub.example.com"}, b"", b"", "", True, "permerror"),
        ({"h": "from:a b"}, b"", b"", "", True, "permerror"),
        ({"n": "a\x01"}, b"", b"", "", True, "permerror"),
        ({}, b"DKIM-", b"From: x\r\nDKIM-", "", False, "pass"),
        ({"q": "x-other:dns/txt"}, b"", b"", "", "ValidationError", "pass"),
        ({}, b"", b"", "s=tlsrpt:email; ", "UnknownKeyTypeError", "pass"),
        ({}, b"To:", b"To :", "", "MessageFormatError", "pass"),
        ({}, b"\r\n\r\n", b"\r\nno field\r\n\r\n", "", "MessageFormatError", "fail"),
        ({}, b"you\r\n", b"you\n", "", True, "fail"),
    ],
)
async def test_known_differences(
    tags: dict[str, str], old: bytes, new: bytes, extra: str, theirs: bool | str, ours: str
) -> None:
    """One example of each, so that a new release of dkimpy that changes its mind is noticed."""
    raw = craft(EXAMPLE, KEY, tags)
    raw = raw.replace(old, new, 1) if old else raw
    record = KEY.record(extra)
    assert judge_of_dkimpy(raw, record) == theirs
    result = await judge(raw, record)
    assert result.result == ours
