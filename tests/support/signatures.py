"""A slow, literal DKIM signer for tests: whatever tags a test asks for, with a signature that really fits them.

It shares no code with ``clawmail``: canonicalization goes line by line as RFC 6376 section 3.4 words it, RSA is the
textbook's exponentiation, so that keys of any size and algorithms we refuse can be used too. It also is the second
opinion that the fast canonicalization is compared with.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEYS = Path(__file__).parent.parent / "golden" / "dkim" / "keys"

# DigestInfo prefixes of RFC 8017 section 9.2, note 1.
_DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
}


@dataclass(frozen=True)
class TextbookRsa:
    """An RSA key as three numbers."""

    n: int
    d: int
    e: int = 65_537

    @staticmethod
    def read(name: str) -> TextbookRsa:
        """A key of ``tests/golden/dkim/keys``: two lines, modulus and private exponent in hex."""
        n, d = (int(line, 16) for line in (KEYS / f"{name}.txt").read_text().split())
        return TextbookRsa(n, d)

    def sign(self, data: bytes, hash_name: str) -> bytes:
        """RSASSA-PKCS1-v1_5 (RFC 8017 section 8.2)."""
        info = _DIGEST_INFO[hash_name] + hashlib.new(hash_name, data).digest()
        size = (self.n.bit_length() + 7) // 8
        padded = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
        return pow(int.from_bytes(padded, "big"), self.d, self.n).to_bytes(size, "big")

    def record(self, extra: str = "v=DKIM1; ") -> str:
        """The TXT record, with a SubjectPublicKeyInfo written by hand."""
        return f"{extra}k=rsa; p={base64.b64encode(self.public_info()).decode()}"

    def public_key(self) -> bytes:
        """RSAPublicKey (RFC 8017 appendix A.1.1)."""
        return _der(0x30, _integer(self.n) + _integer(self.e))

    def public_info(self) -> bytes:
        """SubjectPublicKeyInfo (RFC 5280 section 4.1)."""
        algorithm = _der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
        return _der(0x30, algorithm + _der(0x03, b"\x00" + self.public_key()))


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 128:
        return bytes([tag, len(content)]) + content
    size = (len(content).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(content).to_bytes(size, "big") + content


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@dataclass(frozen=True)
class EdwardsKey:
    """An Ed25519 key made from a seed of 32 octets."""

    seed: bytes

    def sign(self, data: bytes, hash_name: str) -> bytes:
        assert hash_name == "sha256"
        return Ed25519PrivateKey.from_private_bytes(self.seed).sign(hashlib.sha256(data).digest())

    def record(self) -> str:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key()
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(octets).decode()}"


Key = TextbookRsa | EdwardsKey


def literal_body(body: bytes, form: str) -> bytes:
    """RFC 6376 sections 3.4.3 and 3.4.4, line by line."""
    lines = body.split(b"\r\n")
    if form == "relaxed":
        lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return b"\r\n" if form == "simple" else b""
    return b"".join(line + b"\r\n" for line in lines)


def literal_field(name: bytes, value: bytes, form: str) -> bytes:
    """RFC 6376 sections 3.4.1 and 3.4.2; ``value`` is what stands between the colon and the final CRLF."""
    if form == "simple":
        return name + b":" + value + b"\r\n"
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", value)
    return name.strip().lower() + b":" + re.sub(rb"[ \t]+", b" ", unfolded).strip(b" ") + b"\r\n"


def literal_fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """Name (as written, up to the colon) and value of each field."""
    unfolded = re.split(rb"\r\n(?![ \t])", header)
    return [(name, value) for name, _, value in (line.partition(b":") for line in unfolded if line)]


def craft(
    message: bytes, key: Key, tags: Mapping[str, str | None] | None = None, *, name: str = "DKIM-Signature"
) -> bytes:
    """The message with a signature field on top.

    ``tags`` are put over a sensible set: None leaves one out, an own ``bh`` or ``b`` is taken as it is.
    """
    given = dict(tags or {})
    all_tags: dict[str, str | None] = {
        "v": "1",
        "a": "ed25519-sha256" if isinstance(key, EdwardsKey) else "rsa-sha256",
        "c": "relaxed/relaxed",
        "d": "example.com",
        "s": "sel",
        "h": "from:to:subject",
        "bh": "",
        **given,
    }
    header_form, _, body_form = (all_tags["c"] or "simple/simple").partition("/")
    header, _, body = message.partition(b"\r\n\r\n")
    hash_name = (all_tags["a"] or "").rpartition("-")[2]
    if "bh" not in given:
        signed = literal_body(body, body_form or "simple")
        length = all_tags.get("l")
        signed = signed if length is None else signed[: int(length)]
        all_tags["bh"] = base64.b64encode(hashlib.new(hash_name, signed).digest()).decode()
    signature = all_tags.pop("b", None)
    value = " " + "; ".join(f"{tag}={content}" for tag, content in all_tags.items() if content is not None) + "; b="
    data = _signed_data(literal_fields(header), (all_tags["h"] or "").split(":"), header_form)
    data += literal_field(name.encode(), value.encode(), header_form).removesuffix(b"\r\n")
    if signature is None:
        signature = base64.b64encode(key.sign(data, hash_name)).decode()
    return name.encode() + b":" + value.encode() + signature.encode() + b"\r\n" + message


def _signed_data(fields: Sequence[tuple[bytes, bytes]], names: Sequence[str], form: str) -> bytes:
    remaining = list(fields)
    signed = b""
    for wanted in names:
        for index in range(len(remaining) - 1, -1, -1):
            name, value = remaining[index]
            if name.strip().lower() == wanted.strip().lower().encode():
                signed += literal_field(name, value, form)
                del remaining[index]
                break
    return signed


def craft_seal(message: bytes, key: Key, instance: int, tags: Mapping[str, str | None] | None = None) -> bytes:
    """The message with an ARC-Seal on top (RFC 8617 section 5.1.1), over the sets it has; ``tags`` as for ``craft``."""
    all_tags: dict[str, str | None] = {
        "i": str(instance),
        "cv": "none" if instance == 1 else "pass",
        "a": "ed25519-sha256" if isinstance(key, EdwardsKey) else "rsa-sha256",
        "d": "example.com",
        "s": "sel",
        **(tags or {}),
    }
    value = " " + "; ".join(f"{tag}={content}" for tag, content in all_tags.items() if content is not None) + "; b="
    fields = literal_fields(message.partition(b"\r\n\r\n")[0])
    data = b""
    for number in range(1, instance + 1):
        for wanted in (b"arc-authentication-results", b"arc-message-signature", b"arc-seal"):
            for name, content in fields:
                if name.lower() == wanted and re.search(rb"\bi=%d;" % number, content):
                    data += literal_field(name, content, "relaxed")
    data += literal_field(b"ARC-Seal", value.encode(), "relaxed").removesuffix(b"\r\n")
    return b"ARC-Seal:" + value.encode() + base64.b64encode(key.sign(data, "sha256")) + b"\r\n" + message


def craft_set(message: bytes, key: Key, instance: int, results: str = "mx.example.com; spf=pass") -> bytes:
    """The message with a whole ARC set on top."""
    signed = craft(message, key, {"v": None, "i": str(instance), "h": "from:subject"}, name="ARC-Message-Signature")
    return craft_seal(f"ARC-Authentication-Results: i={instance}; {results}\r\n".encode() + signed, key, instance)
