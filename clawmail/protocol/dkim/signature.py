"""The DKIM-Signature field (RFC 6376 section 3.5): read, and checked as far as it can be without a key.

"Verifiers MUST meticulously validate the format and values" (section 6.1.1): a value that is missing, out of its
grammar or against another one makes the signature unusable, and that is said rather than guessed around. The
ARC-Message-Signature and ARC-Seal fields (RFC 8617) speak the same language and are read with the same functions.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple

from clawmail.protocol.address import normalise_domain
from clawmail.protocol.dkim.hashing import BodyPart
from clawmail.protocol.headers import HeaderField, parse_tag_list, tag_list_problem

#: octets of a signature field that is read; real ones have some hundreds.
MAX_FIELD_BYTES = 16 * 1024
#: names in h=; a real message has some dozens of fields.
MAX_SIGNED_NAMES = 1_000
#: seconds that a signer's clock may be ahead of ours.
FUTURE_SECONDS = 3_600
#: seconds that our clock may be ahead of the signer's when a signature expires.
EXPIRY_SECONDS = 300

#: the algorithms we judge, with the type of key each needs (RFC 8301 section 3.1, RFC 8463 section 3).
KEY_TYPES: Mapping[str, str] = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}

# RFC 6376 section 3.1: selector = sub-domain *( "." sub-domain ); octets of 128 and above are RFC 8616's U-labels.
_SELECTOR = re.compile(rb"[A-Za-z0-9_\x80-\xff-]{1,63}+(?:\.[A-Za-z0-9_\x80-\xff-]{1,63}+)*+")
# h= is hdr-name *( [FWS] ":" [FWS] hdr-name ), and a name any octet of RFC 5322 section 3.6.8 but ":" and ";". Some
# signers leave a name empty; that selects nothing, and harms nobody.
_NAMES = re.compile(rb"[!-9<-~\x80-\xff]*+(?:[ \t]*+:[ \t]*+[!-9<-~\x80-\xff]*+)*+")
_TIMESTAMP = re.compile(rb"[0-9]{1,12}")
_LENGTH = re.compile(rb"[0-9]{1,76}")
_BASE64_SPACE = re.compile(rb"[ \t]+")
_QUOTED_OCTET = re.compile(rb"=([0-9A-F]{2})")
_FORMS = frozenset({"simple", "relaxed"})


class Refusal(NamedTuple):
    """Why a signature, a key or a look-up could not be used."""

    #: a result of RFC 8601 section 2.7.1, other than "pass".
    result: str
    reason: str


class Signature(NamedTuple):
    """A signature field that passed every check that needs no key."""

    field: HeaderField
    #: "rsa-sha256" or "ed25519-sha256".
    algorithm: str
    #: d=, lower-case A-labels.
    domain: str
    #: s=, as written.
    selector: str
    #: b=, decoded.
    signature: bytes
    #: "simple" or "relaxed", for the header.
    header_form: str
    #: h=, lower case, in its order.
    names: tuple[bytes, ...]
    #: which part of the body bh= covers.
    body_part: BodyPart
    #: bh=, decoded.
    body_hash: bytes
    #: i=, as text; "@" and the domain when it was not given.
    identity: str
    #: the domain of i=, lower-case A-labels.
    identity_domain: str

    @property
    def key_name(self) -> str:
        """Where the key record lives (RFC 6376 section 3.6.2.1)."""
        return f"{ascii_selector(self.selector)}._domainkey.{self.domain}"


def ascii_selector(selector: str) -> str:
    """The selector as it is asked for in the DNS (RFC 8616 section 4)."""
    return selector if selector.isascii() else normalise_domain(selector) or selector


def read_tags(field: HeaderField) -> dict[str, bytes] | Refusal:
    """The tags of a signature field."""
    if len(field.value) > MAX_FIELD_BYTES:
        return malformed(f"the field has more than {MAX_FIELD_BYTES} octets")
    tags = parse_tag_list(field.value)
    return malformed(tag_list_problem(field.value)) if tags is None else tags


def read_signature(field: HeaderField, tags: Mapping[str, bytes], *, now: float) -> Signature | Refusal:
    """Read one DKIM-Signature field; ``now`` is in seconds since 1970."""
    for tag in ("v", "a", "b", "bh", "d", "h", "s"):
        if tag not in tags:
            return malformed(f"the tag {tag}= is missing")
    if tags["v"] != b"1":
        return malformed(f"the version v={show(tags['v'])} is not 1")
    read = read_covering_signature(field, tags, default_form=b"simple/simple", now=now)
    if isinstance(read, Refusal):
        return read
    if b"from" not in read.names:
        # RFC 6376 section 5.4: "The From header field MUST be signed (that is, included in the h= tag)."
        return Refusal("permerror", "the From field is not signed (h=)")
    identity = _read_identity(tags.get("i"), read.domain)
    if isinstance(identity, Refusal):
        return identity
    return read._replace(identity=identity[0], identity_domain=identity[1])


def read_covering_signature(
    field: HeaderField, tags: Mapping[str, bytes], *, default_form: bytes, now: float
) -> Signature | Refusal:
    """Read what DKIM-Signature and ARC-Message-Signature share: everything but v=, i= and From in h=."""
    signer = read_signer(tags, now=now)
    if isinstance(signer, Refusal):
        return signer
    algorithm, domain, selector, signature = signer
    names = _read_names(tags.get("h", b""))
    if isinstance(names, Refusal):
        return names
    forms = tags.get("c", default_form).decode("latin-1").split("/")
    if len(forms) > 2 or not _FORMS.issuperset(forms):
        return Refusal("permerror", f"the canonicalization c={show(tags.get('c', default_form))} is unknown")
    # "If only one algorithm is named, that algorithm is used for the header and simple for the body."
    header_form, body_form = forms if len(forms) == 2 else (forms[0], "simple")
    # q= lists ways to get the key, and we take the first we know (RFC 6376 section 3.5).
    if "q" in tags and b"dns/txt" not in [method.strip() for method in tags["q"].split(b":")]:
        return Refusal("permerror", f"the query method q={show(tags['q'])} is unknown")
    length: int | None = None
    if "l" in tags:
        if not _LENGTH.fullmatch(tags["l"]):
            return malformed("l= is not a number of octets")
        length = int(tags["l"])
    body_hash = decode_base64(tags.get("bh", b""))
    if not body_hash:
        return malformed("bh= is not base64")
    return Signature(
        field, algorithm, domain, selector, signature, header_form, names,
        BodyPart(body_form, length), body_hash, f"@{domain}", domain,
    )  # fmt: skip


def read_signer(tags: Mapping[str, bytes], *, now: float) -> tuple[str, str, str, bytes] | Refusal:
    """Read a=, d=, s=, b=, t= and x=: algorithm, domain, selector and signature octets."""
    algorithm = tags.get("a", b"").decode("latin-1")
    if algorithm == "rsa-sha1":
        # RFC 8301 section 3.1: "rsa-sha1 MUST NOT be used for signing or verifying."
        return Refusal("policy", "rsa-sha1 is not accepted (RFC 8301)")
    if algorithm not in KEY_TYPES:
        return Refusal("permerror", f"the algorithm a={show(tags.get('a', b''))} is unknown")
    domain = normalise_domain(tags.get("d", b"").decode("utf-8", "replace"))
    if domain is None:
        return malformed(f"d={show(tags.get('d', b''))} is not a domain name")
    if not _SELECTOR.fullmatch(tags.get("s", b"")):
        return malformed(f"s={show(tags.get('s', b''))} is not a selector")
    signature = decode_base64(tags.get("b", b""))
    if not signature:
        return malformed("b= is not base64")
    if "t" in tags or "x" in tags:
        refusal = _check_times(tags.get("t"), tags.get("x"), now)
        if refusal:
            return refusal
    return algorithm, domain, tags["s"].decode("utf-8", "replace"), signature


def _check_times(signed: bytes | None, expires: bytes | None, now: float) -> Refusal | None:
    for tag, value in (("t", signed), ("x", expires)):
        if value is not None and not _TIMESTAMP.fullmatch(value):
            return malformed(f"{tag}= is not a time")
    if signed is not None and expires is not None and int(expires) <= int(signed):
        # "The value of the x= tag MUST be greater than the value of the t= tag if both are present."
        return malformed("the signature expires (x=) before it was made (t=)")
    if signed is not None and int(signed) > now + FUTURE_SECONDS:
        return Refusal("fail", "the signature was made in the future (t=)")
    if expires is not None and int(expires) + EXPIRY_SECONDS < now:
        return Refusal("fail", "the signature has expired (x=)")
    return None


def _read_names(value: bytes) -> tuple[bytes, ...] | Refusal:
    if value.count(b":") >= MAX_SIGNED_NAMES:
        return malformed(f"h= names more than {MAX_SIGNED_NAMES} fields")
    if not _NAMES.fullmatch(value):
        return malformed("h= is not a list of field names")
    return tuple([name.strip() for name in value.lower().split(b":")])


def _read_identity(value: bytes | None, domain: str) -> tuple[str, str] | Refusal:
    if value is None:
        return f"@{domain}", domain
    # dkim-quoted-printable (RFC 6376 section 2.11)
    octets = _QUOTED_OCTET.sub(lambda match: bytes.fromhex(match[1].decode()), value)
    identity = octets.decode("utf-8", "replace")
    _, at, host = identity.rpartition("@")
    identity_domain = normalise_domain(host) if at else None
    if identity_domain is None:
        return malformed(f"i={show(value)} is not an identity")
    # "The domain part of the address MUST be the same as, or a subdomain of, the value of the d= tag."
    if identity_domain != domain and not identity_domain.endswith("." + domain):
        return Refusal("permerror", f"the identity i={show(value)} is not within d={domain}")
    return identity, identity_domain


def decode_base64(value: bytes) -> bytes:
    """Decode base64 with white space inside (RFC 6376 section 2.10); b"" when it is none."""
    try:
        return binascii.a2b_base64(_BASE64_SPACE.sub(b"", value), strict_mode=True)
    except binascii.Error:
        return b""


def malformed(problem: str) -> Refusal:
    """The refusal of what does not follow the grammar (RFC 6376 section 6.1.1)."""
    return Refusal("permerror", f"malformed signature: {problem}")


def show(value: bytes) -> str:
    """A stranger's value, fit to stand in a reason: short, printable ASCII."""
    text = value[:60].decode("ascii", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)
