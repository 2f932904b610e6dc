"""Odd mail sent on by a rule: none is lost, changed or left without a seal that the next hop can check."""

from __future__ import annotations

import dkim
import pytest

from clawmail.protocol.headers import split_message
from tests.flow.test_forwarding import DESTINATION, forwarded, judged, letter, taken_by
from tests.support.house import furnished_house
from tests.support.oddities import ODDITIES, TO
from tests.support.smtp_sink import SmtpSink

#: dkimpy does not read a header that ends without an empty line.
UNREADABLE_FOR_DKIMPY = {"no blank line"}
#: an mbox line is no part of a message, and below other fields it would end the header: it stays behind.
LOSES_ITS_FIRST_LINE = {"an mbox line on top"}
#: octets of what is also sent on in our own name.
SMALL = 200_000


@pytest.mark.parametrize("rewrite", ["never", "always"])
async def test_every_oddity_is_sent_on(database_url: str, rewrite: str) -> None:
    async with furnished_house(database_url, {"forwarding": {"rewrite_from": rewrite}}) as house:
        house.mx("there.test", "127.0.0.2")
        domain = await house.domain("odd.example")
        await domain.rule(".", "boss@there.test", field="to")
        async with SmtpSink(host="127.0.0.2", port=house.out_port) as sink:
            for name, oddity in ODDITIES.items():
                if rewrite == "always" and len(oddity.raw) > SMALL:
                    continue
                assert (await house.deliver(oddity.raw, TO, options=["BODY=8BITMIME"]))[0] == 250
                data = (await taken_by(sink)).data
                sent = split_message(oddity.raw)
                if rewrite == "never":
                    whole = oddity.raw.partition(b"\r\n")[2] if name in LOSES_ITS_FIRST_LINE else oddity.raw
                    assert data.removesuffix(b"\r\n").endswith(whole.removesuffix(b"\r\n")), name
                else:
                    assert len(split_message(data).all("From")) == 1, name
                    assert data.removesuffix(b"\r\n").endswith(sent.body.removesuffix(b"\r\n")), name
                if name in UNREADABLE_FOR_DKIMPY:
                    with pytest.raises(dkim.MessageFormatError):
                        await judged(house, data)
                else:
                    assert await judged(house, data) == (rewrite == "always", "pass"), name


async def test_a_costly_pattern_is_matched_beside_the_loop(database_url: str) -> None:
    async with furnished_house(database_url) as house:
        house.mx("there.test", "127.0.0.2")
        domain = await house.domain("rules.example")
        await domain.inbox("agent")
        await domain.rule("a(a|b){0,500}c", DESTINATION)
        raw = letter("b" * 60 + "\r\n " + "b" * 400 + "abc")
        assert (await forwarded(house, raw)).data.endswith(raw)
