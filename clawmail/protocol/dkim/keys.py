"""Key records (RFC 6376 section 3.6.1, RFC 8463 section 4), and checking a signature with what they hold.

Reading a record and building its public key costs as much as using it, and the same few records sign most mail, so both
are remembered by the record's octets. What a record may cost is bounded before any arithmetic: by its length, by the
size of the modulus, and by that of the exponent, which a stranger would choose huge if he could.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from clawmail.protocol.dkim.signature import KEY_TYPES, Refusal, Signature, decode_base64, show
from clawmail.protocol.dns import Answer
from clawmail.protocol.headers import parse_tag_list, tag_list_problem

#: octets of a key record that is read; one of 8,192 bits has 1,500.
MAX_RECORD_BYTES = 4 * 1024
#: records at one name that are read, and usable keys among them that are tried, in the order of the answer.
MAX_RECORDS = 20
MAX_KEYS = 5
#: bits of an RSA modulus. RFC 8301 section 3.2 refuses less than 1,024 and asks for up to 4,096.
MIN_RSA_BITS = 1_024
MAX_RSA_BITS = 8_192
#: bits of an RSA public exponent; every real one is 65,537, or 3.
MAX_EXPONENT_BITS = 64
#: records whose reading is remembered.
CACHED_RECORDS = 4_096

PKCS1_PADDING = padding.PKCS1v15()
SHA256_DIGEST = utils.Prehashed(hashes.SHA256())

_WHITE_SPACE = re.compile(rb"[ \t\r\n]+")


class KeyRecord(NamedTuple):
    """A key record that can be used."""

    #: k=: "rsa" or "ed25519".
    key_type: str
    public_key: RSAPublicKey | Ed25519PublicKey
    bits: int
    #: t=y: the domain is testing DKIM.
    testing: bool
    #: t=s: the domain of i= must be d= itself, not one below it.
    strict: bool


class KeyCheck(NamedTuple):
    """What came of a signature and the key records at its selector."""

    result: str
    reason: str
    testing: bool = False
    bits: int | None = None


@functools.lru_cache(maxsize=CACHED_RECORDS)
def _read_short_record(record: bytes) -> KeyRecord | Refusal:
    tags = parse_tag_list(record)
    if tags is None:
        return Refusal("permerror", f"the key record is malformed: {tag_list_problem(record)}")
    # "v= … This tag MUST be the first tag in the record if present. Records beginning with a v= tag with any other
    # value MUST be discarded."
    if "v" in tags and (next(iter(tags)) != "v" or tags["v"] != b"DKIM1"):
        return Refusal("permerror", "the key record is not of version DKIM1")
    if "p" not in tags:
        return Refusal("permerror", "the key record has no key (p=)")
    if not tags["p"]:
        return Refusal("permerror", "the key is revoked (p= is empty)")
    key_type = tags.get("k", b"rsa").decode("latin-1")
    if key_type not in KEY_TYPES.values():
        return Refusal("permerror", f"the key type k={show(tags['k'])} is unknown")
    # h= lists hash algorithms; both signature algorithms we judge use SHA-256.
    if "h" in tags and b"sha256" not in _listed(tags["h"]):
        return Refusal("permerror", f"the key does not allow SHA-256 (h={show(tags['h'])})")
    # s= lists services; unknown ones among them are ignored.
    if "s" in tags and not {b"*", b"email"}.intersection(_listed(tags["s"])):
        return Refusal("permerror", f"the key is not for mail (s={show(tags['s'])})")
    flags = _listed(tags.get("t", b""))
    loaded = _load_key(key_type, decode_base64(_WHITE_SPACE.sub(b"", tags["p"])))
    if isinstance(loaded, Refusal):
        return loaded
    bits = loaded.key_size if isinstance(loaded, RSAPublicKey) else 256
    return KeyRecord(key_type, loaded, bits, testing=b"y" in flags, strict=b"s" in flags)


def read_key_record(record: bytes) -> KeyRecord | Refusal:
    """Read one TXT record of a selector."""
    if len(record) > MAX_RECORD_BYTES:
        return Refusal("permerror", f"the key record has more than {MAX_RECORD_BYTES} octets")
    return _read_short_record(record)


def _listed(value: bytes) -> list[bytes]:
    return [item.strip() for item in value.split(b":")]


def _load_key(key_type: str, octets: bytes) -> RSAPublicKey | Ed25519PublicKey | Refusal:
    try:
        if key_type == "ed25519":
            # RFC 8463 section 4.2: the 32 octets of the key, without ASN.1 around them.
            return Ed25519PublicKey.from_public_bytes(octets)
        # SubjectPublicKeyInfo, as everyone writes it, or RSAPublicKey, as RFC 6376 section 3.6.1 says.
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        return Refusal("permerror", f"the key (p=) is not of the type {key_type}")
    if not isinstance(key, RSAPublicKey):
        return Refusal("permerror", "the key (p=) is not of the type rsa")
    if key.key_size <= MAX_RSA_BITS and key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        return Refusal("permerror", f"the key's exponent has more than {MAX_EXPONENT_BITS} bits")
    return key


def no_key(signature: Signature, answer: Answer[bytes]) -> KeyCheck:
    """What a look-up that brought no record means (RFC 6376 section 6.1.2)."""
    if answer.failed:
        return KeyCheck("temperror", f"the key could not be looked up: {answer.problem or 'the DNS did not answer'}")
    return KeyCheck("permerror", f"there is no key at {signature.key_name}")


def check_signature(records: Sequence[bytes], signature: Signature, digest: bytes) -> KeyCheck:
    """Try each key record in turn (RFC 6376 section 6.1.2); ``digest`` is the SHA-256 of what was signed.

    The first record that fits wins; else the result is that of the record that came closest to fitting.
    """
    checks: list[KeyCheck] = []
    keys = 0
    for record in map(read_key_record, records[:MAX_RECORDS]):
        keys += isinstance(record, KeyRecord)
        if keys > MAX_KEYS:
            break
        check = _check_record(record, signature, digest)
        if check.result == "pass":
            return check
        checks.append(check)
    return max(checks, key=lambda check: ("permerror", "policy", "fail").index(check.result))


def _check_record(record: KeyRecord | Refusal, signature: Signature, digest: bytes) -> KeyCheck:
    if isinstance(record, Refusal):
        return KeyCheck(*record)
    key_type, public_key, bits, testing, strict = record
    if key_type != KEY_TYPES[signature.algorithm]:
        return KeyCheck("permerror", f"the key is not one for {signature.algorithm}", testing, bits)
    if strict and signature.identity_domain != signature.domain:
        return KeyCheck("permerror", "the key (t=s) does not sign for subdomains (i=)", testing, bits)
    if isinstance(public_key, Ed25519PublicKey):
        verified = _verify_ed25519(public_key, signature.signature, digest)
    elif bits < MIN_RSA_BITS:
        return KeyCheck("policy", f"a key of {bits} bits is too weak", testing, bits)
    elif bits > MAX_RSA_BITS:
        return KeyCheck("policy", f"a key of {bits} bits is larger than accepted", testing, bits)
    else:
        verified = _verify_rsa(public_key, signature.signature, digest)
    if verified:
        return KeyCheck("pass", "", testing, bits)
    return KeyCheck("fail", "the signature does not fit the header and the key", testing, bits)


def _verify_rsa(key: RSAPublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        key.verify(signature, digest, PKCS1_PADDING, SHA256_DIGEST)
    except InvalidSignature:
        return False
    return True


def _verify_ed25519(key: Ed25519PublicKey, signature: bytes, digest: bytes) -> bool:
    # RFC 8463 section 3: PureEdDSA over the SHA-256 digest.
    try:
        key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True
