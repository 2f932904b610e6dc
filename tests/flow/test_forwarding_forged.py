"""Results forged in our name: they do not travel on under our seal (RFC 8601 section 5)."""

from __future__ import annotations

from clawmail.protocol.dkim.hashing import BodyPart, MessageHashes
from clawmail.protocol.dkim.sign import load_signing_key, sign_message, signer_tags
from clawmail.protocol.headers import split_message
from tests.flow.test_forwarding import KEY, domain, fields_of, forwarded, in_our_name, inbox, judged, letter, signed
from tests.support.house import OwnedDomain, OwnedInbox

__all__ = ["domain", "inbox"]  # fixtures


async def test_results_forged_in_our_name_do_not_go_on(domain: OwnedDomain, inbox: OwnedInbox) -> None:
    ours = ("mx.house.example", "MX.Rules.Example.", '"mx.rules.example"(really) 1')
    lies = [f"Authentication-Results: {name}; dmarc=pass header.from=bank.test" for name in ours]
    foreign = "Authentication-Results: mx.elsewhere.test; dkim=fail"
    original = signed(letter("urgent: forged", foreign))
    below = original.index(b"To: agent")
    raw = original[:below] + "".join(f"{lie}\r\n" for lie in lies).encode() + original[below:]
    taken = await forwarded(domain.house, raw)
    assert taken.data.endswith(b"\r\n" + original)
    results = fields_of(taken.data).get_all("Authentication-Results")
    assert results is not None and len(results) == 2
    assert "dkim=pass" in results[0] and "mx.elsewhere.test; dkim=fail" in results[1]
    assert await judged(domain.house, taken.data) == (True, "pass")


async def test_where_the_author_signed_what_was_forged_it_goes_on_in_our_name(
    domain: OwnedDomain, inbox: OwnedInbox
) -> None:
    lie = "Authentication-Results: mx.rules.example; dmarc=pass header.from=bank.test"
    raw = letter("urgent: signed lie", lie)
    key = load_signing_key("author.test", "s", KEY)
    hashes = MessageHashes(split_message(raw), [BodyPart("relaxed", None)])
    tags = [b"v=1", *signer_tags(key, 1_700_000_000), b"c=relaxed/relaxed"]
    signature = sign_message(b"DKIM-Signature", tags, key, [b"from", b"subject", b"authentication-results"], hashes)
    taken = await forwarded(domain.house, signature + raw)
    assert "dkim=pass" in fields_of(taken.data)["Authentication-Results"]
    in_our_name(taken)
    assert b"bank.test" not in taken.data
    assert await judged(domain.house, taken.data) == (True, "pass")
