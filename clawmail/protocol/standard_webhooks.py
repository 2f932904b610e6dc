"""Signed webhooks after the Standard Webhooks specification 1.0 (standardwebhooks.com): secrets, signature, headers.

A receiver proves that a request is ours and was not changed with the secret that both sides know: the signature is an
HMAC-SHA256 over the message's id, the time of the attempt and the body. The time, which is signed, limits for how long
a request that was overheard can be repeated; the id, the same at every attempt, lets the receiver notice repetitions.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from datetime import datetime

#: what the text of a secret begins with; the rest is base64.
SECRET_MARK = "whsec_"
#: octets of a secret: the specification wants 24 to 64.
SECRET_OCTETS = 32


def secret_text(secret: bytes) -> str:
    """A secret as it is handed to its owner."""
    return SECRET_MARK + base64.b64encode(secret).decode()


def read_secret(text: str) -> bytes:
    """The secret of its text. Raises ValueError for what is none."""
    if not text.startswith(SECRET_MARK):
        raise ValueError(f"a secret begins with {SECRET_MARK}")
    try:
        return base64.b64decode(text.removeprefix(SECRET_MARK), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a secret is {SECRET_MARK} and base64: {error}") from None


def signature(secret: bytes, message_id: str, seconds: int, body: bytes) -> str:
    """The signature of one attempt, with its version: ``v1,…``. ``seconds``: Unix time of the attempt."""
    signed = f"{message_id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()


def headers(secrets: Iterable[bytes], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The header fields of one attempt; with several secrets one signature each, while one replaces another."""
    seconds = int(at.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signature(secret, message_id, seconds, body) for secret in secrets),
    }
