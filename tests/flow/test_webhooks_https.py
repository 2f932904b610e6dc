"""Webhooks over HTTPS, as the world has them: certificates are verified, and what an overloaded host asks is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flow.test_webhooks import WEBHOOKS, call, furnish, mail, settled, webhook
from tests.support.certificates import make_authority, make_host
from tests.support.house import furnished_house
from tests.support.webhook_sink import WebhookSink


async def test_certificates_are_verified(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_authority("Root")
    issuer = make_authority("Issuer", by=root)
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))  # the daemon's; verification is as it is shipped
    good = make_host("sink.example", by=issuer).server_context(issuer)
    late = make_host("sink.example", by=issuer, days=-1).server_context(issuer)
    strange = make_host("sink.example", by=make_authority("Stranger")).server_context()
    settings = {"webhooks": {**WEBHOOKS["webhooks"], "retry_schedule_seconds": [0.05]}}
    async with (
        WebhookSink(tls=good) as sink,
        WebhookSink(tls=late) as expired,
        WebhookSink(tls=strange) as untrusted,
        furnished_house(database_url, settings) as house,
    ):
        _, inbox = await furnish(house)
        for name in ("sink.example", "other.example"):
            house.dns.set(name, "A", ["127.0.0.1"])
        hook = await webhook(house, inbox.key, sink.url("mine", "sink.example"), "received")
        refused = {
            "unable to get local issuer": await webhook(house, inbox.key, untrusted.url("x", "sink.example")),
            "certificate has expired": await webhook(house, inbox.key, expired.url("x", "sink.example")),
            "Hostname mismatch": await webhook(house, inbox.key, sink.url("elsewhere", "other.example")),
        }
        await house.deliver(mail("hello"), inbox.address)
        (delivery,) = await settled(house, inbox.key, hook, "delivered")
        (told,) = sink.told
        assert (told.id, told.signed_with(hook["secret"])) == (delivery["id"], True)
        for why, other in refused.items():
            status, tested = await call(house, "POST", f"/api/v1/webhooks/{other['id']}/test", inbox.key)
            assert (status, tested["ok"], tested["status"]) == (200, False, None)
            name = "other.example" if "mismatch" in why else "sink.example"
            assert tested["error"].startswith(f"the certificate of {name} is not accepted: ") and why in tested["error"]
            (failed,) = await settled(house, inbox.key, other, "failed")
            assert why in failed["last_error"]
        assert expired.told == untrusted.told == sink.at("elsewhere") == []


async def test_a_host_that_asks_for_a_rest_gets_it(database_url: str) -> None:
    async with (
        WebhookSink({"busy": [503, 200]}, retry_after="2") as sink,
        furnished_house(database_url, WEBHOOKS) as house,
    ):
        _, inbox = await furnish(house)
        hook = await webhook(house, inbox.key, sink.url("busy"), "received")
        await house.deliver(mail("one"), inbox.address)
        await sink.reached("busy", 1)
        await house.deliver(mail("two"), inbox.address)
        await settled(house, inbox.key, hook, "delivered", 2)
        first, second, *_ = (int(one.headers["webhook-timestamp"]) for one in sink.at("busy"))
        # The schedule says a tenth of a second. Whole seconds are compared: of two, one may be lost to rounding.
        assert second - first >= 1
        assert len(sink.at("busy")) == 3
