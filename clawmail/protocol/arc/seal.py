"""Adding a set to a chain (RFC 8617 section 5.1).

A forwarder seals what it sends on, after every change to the message is made. The set says what we found when the
message came in, signs the message as it leaves, and seals all sets below it.
"""

from __future__ import annotations

from clawmail.protocol.arc.chain import MAX_SETS, ArcResult, ArcSet, BrokenChain, read_chain, seal_digests
from clawmail.protocol.dkim.hashing import BodyPart, MessageHashes
from clawmail.protocol.dkim.selection import names_to_sign
from clawmail.protocol.dkim.sign import SigningKey, add_signature, fold_words, sign_message, signer_tags, unsigned_field
from clawmail.protocol.headers import HeaderField, RawMessage, split_message, unfold

_RESULTS = b"ARC-Authentication-Results"
_CONTROL = bytes([*range(0x20), 0x7F])


def seal(
    message: RawMessage,
    key: SigningKey,
    *,
    authserv_id: str,
    authentication_results: str,
    chain: ArcResult,
    now: float,
) -> bytes:
    """The three fields of a new set, CRLF-ended, to put on top of ``message``; b"" when the chain must not be sealed.

    ``chain`` is what ``verify_arc`` said of the message when it arrived, ``authentication_results`` the value of our
    Authentication-Results field, with or without the authserv-id it starts with. Nothing is added to a chain that has
    ended with ``cv=fail`` or has 50 sets; nor to one whose keys could not be looked up, because a seal would have to
    declare it failed for good. ``now`` is in seconds since 1970. Computes as long as ``sign`` does, twice.
    """
    if chain.ended or chain.result == "temperror" or chain.instance >= MAX_SETS:
        return b""
    sets: tuple[ArcSet, ...] = ()
    if chain.result == "pass":
        read = read_chain(message)
        if isinstance(read, BrokenChain) or len(read) != chain.instance:
            return b""
        sets = read
    instance = b"i=%d" % (chain.instance + 1)
    results = _results_field(instance, authserv_id, authentication_results)
    hashes = MessageHashes(message, [BodyPart("relaxed", None)])
    # "The signature of the AMS header field SHOULD include any DKIM-Signature header fields already present."
    names = names_to_sign(message, also={b"dkim-signature"})
    tags = [instance, *signer_tags(key, now), b"c=relaxed/relaxed"]
    signature = split_message(sign_message(b"ARC-Message-Signature", tags, key, names, hashes)).fields[0]
    status = b"cv=" + chain.result.encode()
    words = [b" " + tag + b";" for tag in (instance, status, *signer_tags(key, now))]
    unsigned = unsigned_field(b"ARC-Seal", words)
    # RFC 8617 section 5.1.2: a seal that says cv=fail covers its own set only; ``sets`` is empty then.
    *_, digest = seal_digests([*sets, ArcSet(results, signature, {}, unsigned, {})])
    return add_signature(unsigned, key.sign_digest(digest)) + signature.raw + results.raw


def _results_field(instance: bytes, authserv_id: str, authentication_results: str) -> HeaderField:
    authority = authserv_id.encode()
    # White space becomes a single space, so that nothing a stranger wrote can end the line.
    value = b" ".join(unfold(authentication_results.encode("utf-8", "replace")).split()).translate(None, _CONTROL)
    payload = value.removeprefix(authority + b";").strip() or b"none"
    words = [b" " + instance + b";", b" " + authority + b";", *(b" " + word for word in payload.split(b" "))]
    folded = fold_words(words, len(_RESULTS) + 1)
    return HeaderField(_RESULTS, folded, _RESULTS + b":" + folded + b"\r\n")
