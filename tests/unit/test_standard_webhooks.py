"""Signatures of webhooks are those of the Standard Webhooks specification."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawmail.protocol.standard_webhooks import headers, read_secret, secret_text, signature

#: the example that the specification's own libraries are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, SECONDS, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_specifications_example() -> None:
    assert signature(read_secret(SECRET), ID, SECONDS, BODY) == SIGNATURE


def test_the_header_fields() -> None:
    at = datetime.fromtimestamp(SECONDS + 0.9, UTC)
    assert headers([read_secret(SECRET)], ID, at, BODY) == {
        "webhook-id": ID,
        "webhook-timestamp": str(SECONDS),
        "webhook-signature": SIGNATURE,
    }
    two = headers([b"new", read_secret(SECRET)], ID, at, BODY)["webhook-signature"].split(" ")
    assert len(two) == 2 and two[1] == SIGNATURE


@given(secret=st.binary(min_size=24, max_size=64), body=st.binary(max_size=200))
def test_a_receiver_finds_the_same(secret: bytes, body: bytes) -> None:
    key = base64.b64decode(secret_text(secret)[len("whsec_") :])
    wanted = hmac.new(key, b"id.7." + body, hashlib.sha256).digest()
    assert signature(read_secret(secret_text(secret)), "id", 7, body) == "v1," + base64.b64encode(wanted).decode()


@pytest.mark.parametrize("text", ["", "whsec", "abc", "whsec_*", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        read_secret(text)
