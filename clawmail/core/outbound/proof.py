"""Proof that something is about mail of ours: addresses and envelope ids that nobody else can make.

Anybody can write a bounce. It settles a delivery only if it carries something that only a receiver of our mail could
know or only we could have made: a return path or ENVID with our signature, or the random Message-ID of the message.
What proves a delivery must not be known to the receivers of another: a return path belongs to one delivery, an ENVID to
the deliveries of one message at one destination. A Message-ID is known to all; ``feedback`` says what it is worth.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from uuid import UUID

from clawmail.base.secrets import Keyring
from clawmail.core.envelope import ReturnPath
from clawmail.protocol.srs import make_return_path, read_return_path, reverse_sender

#: characters of an ENVID's signature, and octets of the digest that they are taken from.
MAC_CHARS = 20
MAC_OCTETS = 15
#: octets of a report that are searched, and Message-IDs taken from it.
MAX_SEARCHED_OCTETS = 512 * 1024
MAX_MESSAGE_IDS = 20

_REWRITTEN = re.compile(r"SRS[01][=+-].+", re.IGNORECASE | re.DOTALL)
_SIGNED = re.compile(r"bounce\+[0-9A-Za-z-]{1,40}\.[A-Z2-7]{16}", re.IGNORECASE)
_ENVELOPE_ID = re.compile(r"cm\.([0-9a-f]{32})\.([a-z2-7]{20})", re.IGNORECASE)
_ENVID_FIELD = re.compile(rb"^Original-Envelope-Id:[ \t]*(\S{1,200})", re.IGNORECASE | re.MULTILINE)
_ID_FIELD = re.compile(
    rb"^[>| \t]{0,8}Message-ID:[ \t]*(?:\r?\n[ \t]+)?(<[^<>\s]{1,900}>)", re.IGNORECASE | re.MULTILINE
)
_REFERRING = re.compile(rb"^(?:In-Reply-To|References):[ \t]*((?:[^\n]|\n[ \t]){1,2000})", re.IGNORECASE | re.MULTILINE)
_ID = re.compile(rb"<[^<>\s]{1,900}>")


class Proofs:
    """Makes and reads signatures with keys of this server."""

    def __init__(self, keyring: Keyring) -> None:
        self._return_key = keyring.signing_key("return path")
        self._envid_key = keyring.signing_key("envelope id")

    def recognise(self, address: str, now: float) -> ReturnPath | None:
        """The return path that ``address`` is, or pretends to be; None for any other address."""
        local, _, domain = address.rpartition("@")
        if _REWRITTEN.fullmatch(local):
            old = reverse_sender(address, domain=domain, key=self._return_key, now=now)
            return ReturnPath(address, forged=old.address is None)
        if _SIGNED.fullmatch(local):
            made_for = read_return_path(address, key=self._return_key)
            return ReturnPath(address, forged=made_for is None, made_for=UUID(made_for) if made_for else None)
        return None

    def return_path(self, delivery_id: UUID, domain: str) -> str:
        """The envelope sender of one delivery."""
        return make_return_path(delivery_id.hex, domain=domain, key=self._return_key)

    def envelope_id(self, email_id: UUID, destination: str) -> str:
        """The ENVID under which an email travels to one destination (RFC 3461 section 4.4)."""
        text = f"{email_id.hex}@{destination}"
        mac = hmac.digest(self._envid_key, text.encode(), hashlib.sha256)
        return f"cm.{email_id.hex}.{base64.b32encode(mac[:MAC_OCTETS]).decode('ascii').lower()[:MAC_CHARS]}"

    def proves(self, envelope_id: str, email_id: UUID, destination: str) -> bool:
        """Whether ``envelope_id`` is the one that we gave an email on its way to ``destination``."""
        # Without regard to case: a host may change it.
        ours = self.envelope_id(email_id, destination)
        return hmac.compare_digest(ours.encode(), envelope_id.lower().encode("utf-8", "surrogatepass"))


def email_of(envelope_id: str) -> UUID | None:
    """The email that an ENVID claims to be of (``Proofs.proves`` knows better); None for no ENVID of ours."""
    found = _ENVELOPE_ID.fullmatch(envelope_id)
    return UUID(found[1]) if found else None


def envelope_id_in(report: bytes) -> str:
    """Original-Envelope-Id of a report (RFC 3464 section 2.2.1); "" without one."""
    found = _ENVID_FIELD.search(report, 0, MAX_SEARCHED_OCTETS)
    return found[1].decode("ascii", "replace") if found else ""


def message_ids_in(report: bytes) -> list[str]:
    """Message-IDs that a report quotes: of returned headers, and those it says it answers."""
    searched = report[:MAX_SEARCHED_OCTETS].replace(b"=\r\n", b"").replace(b"=3D", b"=")
    quoted = [found[1] for found in _ID_FIELD.finditer(searched)]
    answered = [one for field in _REFERRING.finditer(searched) for one in _ID.findall(field[1])]
    ids = dict.fromkeys(one.decode("utf-8", "replace") for one in [*quoted, *answered])
    return list(ids)[:MAX_MESSAGE_IDS]
