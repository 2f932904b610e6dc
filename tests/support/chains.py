"""ARC chains made by our own sealer, hop by hop, and dkimpy's opinion of them."""

from __future__ import annotations

import logging

import dkim

from clawmail.protocol.arc import ArcResult, seal, verify_arc
from clawmail.protocol.dkim.sign import generate_ed25519_key, generate_rsa_key, load_signing_key
from clawmail.protocol.headers import split_message
from tests.support.zones import ScriptedResolver, Zone

logging.getLogger("dkimpy").setLevel(logging.CRITICAL)

NOW = 1_700_000_000
RSA_DER, RSA_RECORD = generate_rsa_key()
EDWARDS_DER, EDWARDS_RECORD = generate_ed25519_key()
KEYS = {
    "one.example": load_signing_key("one.example", "s", RSA_DER),
    "two.example": load_signing_key("two.example", "s", EDWARDS_DER),
    "three.example": load_signing_key("three.example", "s", RSA_DER),
}
#: dkimpy seals and verifies chains with RSA only; RFC 8617 section 4.1.3 takes DKIM's algorithms, and RFC 8463 is one.
RSA_DOMAINS = ["one.example", "three.example"]
ZONE: Zone = {
    "s._domainkey.one.example": {"TXT": [RSA_RECORD]},
    "s._domainkey.two.example": {"TXT": [EDWARDS_RECORD]},
    "s._domainkey.three.example": {"TXT": [RSA_RECORD]},
}
MESSAGE = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: one\r\n\r\nHello  you\r\n"


async def judge(raw: bytes, zone: Zone = ZONE) -> ArcResult:
    return await verify_arc(split_message(raw), ScriptedResolver(zone), now=NOW)


async def hop(raw: bytes, domain: str = "one.example", results: str = "spf=pass smtp.mailfrom=example.com") -> bytes:
    """The message as a forwarder seals it and sends it on."""
    chain = await judge(raw)
    added = seal(
        split_message(raw),
        KEYS[domain],
        authserv_id=f"mx.{domain}",
        authentication_results=results,
        chain=chain,
        now=NOW,
    )
    return added + raw


async def chain_of(*domains: str) -> bytes:
    raw = MESSAGE
    for domain in domains:
        raw = await hop(raw, domain)
    return raw


def judge_of_dkimpy(raw: bytes) -> bytes | None:
    def answer(name: bytes, timeout: int = 5) -> bytes:
        return str(ZONE[name.decode().rstrip(".")]["TXT"][0]).encode()

    verdict: bytes | None = dkim.arc_verify(raw, dnsfunc=answer)[0]
    return verdict
