"""Envelope senders of our own making: rewritten ones for forwarding (SRS), and one per delivery for bounces (VERP).

A forwarded message leaves from our address, so SPF at the next hop must find our domain in its envelope; a bounce must
still find its way back. The Sender Rewriting Scheme (M. S. Wong, "SRS", 2004; as libsrs2 and postsrsd write it) packs
the old sender into the new one::

    SRS0=hash=stamp=domain=local@our.example          the first forwarder
    SRS1=hash=first-forwarder==rest-of-SRS0@our.example    every later one

The hash keeps strangers from making addresses that we would relay, the stamp lets them expire. The return path of a
delivery of our own, ``bounce+id.mac@our.example``, carries its id the same way: what arrives there settles that
delivery and nothing else. The key and the present time are arguments; hashes are compared in constant time and without
regard to case, because some hosts change the case of local parts.

A rewritten local part can be longer than the 64 octets of RFC 5321 section 4.5.3.1.1, as everywhere where SRS is used;
whoever takes RCPT asks ``reverse_sender`` before the length is judged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from .address import Address, normalise_domain

#: characters of the hash in base32 (5 bits each): 40 bits, as a guess costs one message.
HASH_CHARS = 8
#: characters of the MAC of a return path.
MAC_CHARS = 16
#: octets of a digest that the longer of the two is taken from: what nobody looks at need not be written in base32.
DIGEST_OCTETS = 10
#: days for which a rewritten address takes bounces; retries end after 5 days, and bounces may be late.
VALID_DAYS = 21

_DAY_SECONDS = 86_400
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # of the stamp: the day modulo 1,024 in two digits of base 32
_STAMP_DAYS = 1024
_SRS0 = re.compile(r"SRS0[=+-]([^=]{1,64})=([A-Z2-7]{2})=([^=]{1,255})=(.{1,255})", re.IGNORECASE | re.DOTALL)
_SRS1 = re.compile(r"SRS1[=+-]([^=]{1,64})=([^=]{1,255})=([=+-].{1,255})", re.IGNORECASE | re.DOTALL)
_RETURN_PATH = re.compile(r"bounce\+([0-9A-Za-z-]{1,40})\.([A-Z2-7]{1,64})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reversed:
    """What a rewritten address stands for."""

    #: where its bounces go; None when it is not to be used.
    address: str | None
    #: why not, in words: a forged hash, an expired stamp, not one of ours.
    problem: str = ""


def rewrite_sender(sender: str, *, domain: str, key: bytes, now: float) -> str:
    """The envelope sender under which ``sender``'s message is forwarded by ``domain``.

    The null sender stays null, an address already of ``domain`` stays as it is, and one that a forwarder before us has
    rewritten becomes SRS1, so that the address does not grow with every hop.
    """
    local, at, host = sender.rpartition("@")
    if not at or host.lower() == domain.lower():
        return sender
    if found := _SRS1.fullmatch(local):
        rest = f"{found[2]}={found[3]}"
        return f"SRS1={_hash(key, rest)}={rest}@{domain}"
    if re.match(r"SRS0[=+-]", local, re.IGNORECASE):
        rest = f"{host}={local[4:]}"
        return f"SRS1={_hash(key, rest)}={rest}@{domain}"
    rest = f"{_stamp(now)}={host}={local}"
    return f"SRS0={_hash(key, rest)}={rest}@{domain}"


def reverse_sender(recipient: str, *, domain: str, key: bytes, now: float) -> Reversed:
    """The sender behind ``recipient``, an address that ``rewrite_sender`` made for ``domain``."""
    local, _, host = recipient.rpartition("@")
    if host.lower() != domain.lower():
        return Reversed(None, "not an address of this domain")
    if found := _SRS1.fullmatch(local):
        if not _same(found[1], _hash(key, f"{found[2]}={found[3]}")):
            return Reversed(None, "the hash is not ours")
        return _checked(f"SRS0{found[3]}", found[2])
    if (found := _SRS0.fullmatch(local)) is None:
        return Reversed(None, "not a rewritten address")
    if not _same(found[1], _hash(key, f"{found[2].upper()}={found[3]}={found[4]}")):
        return Reversed(None, "the hash is not ours")
    if not _still_valid(found[2].upper(), now):
        return Reversed(None, "the address has expired")
    return _checked(found[4], found[3])


def make_return_path(delivery: str, *, domain: str, key: bytes) -> str:
    """The envelope sender of one delivery; ``delivery`` is its id (letters, digits and dashes, at most 40)."""
    return f"bounce+{delivery}.{_mac(key, delivery, domain)}@{domain}"


def read_return_path(recipient: str, *, key: bytes) -> str | None:
    """The id of the delivery a bounce to ``recipient`` belongs to; None when the address is not one we made."""
    local, _, host = recipient.rpartition("@")
    found = _RETURN_PATH.fullmatch(local)
    if found is None or not _same(found[2], _mac(key, found[1], host)):
        return None
    return found[1].lower()


def _checked(local: str, host: str) -> Reversed:
    domain = normalise_domain(host)
    return Reversed(str(Address(local, domain))) if domain else Reversed(None, "it holds no mail domain")


def _hash(key: bytes, text: str) -> str:
    return _digest(key, b"srs", text)[:HASH_CHARS]


def _mac(key: bytes, delivery: str, domain: str) -> str:
    return _digest(key, b"return-path", f"{delivery}@{domain}")[:MAC_CHARS].lower()


def _digest(key: bytes, purpose: bytes, text: str) -> str:
    # The purpose parts the two uses of one key. Lower case: a host may change the case of what comes back.
    digest = hmac.digest(key, purpose + b"\0" + text.lower().encode("utf-8", "surrogatepass"), hashlib.sha256)
    return base64.b32encode(digest[:DIGEST_OCTETS]).decode("ascii")


def _same(given: str, true: str) -> bool:
    return hmac.compare_digest(given.lower().encode("utf-8", "surrogatepass"), true.lower().encode("ascii"))


def _stamp(now: float) -> str:
    day = int(now // _DAY_SECONDS) % _STAMP_DAYS
    return _ALPHABET[day >> 5] + _ALPHABET[day & 31]


def _still_valid(stamp: str, now: float) -> bool:
    day = (_ALPHABET.index(stamp[0]) << 5) + _ALPHABET.index(stamp[1])
    age = (int(now // _DAY_SECONDS) - day) % _STAMP_DAYS
    return age <= VALID_DAYS
