"""Verifying DKIM signatures (RFC 6376 section 6, RFC 8301, RFC 8463).

Each signature of a message is judged on its own: one that is broken says nothing about the next. First the fields are
read, then the keys of those that can be used are asked for, then everything is computed in one go, in a thread when the
message is large. Results are the words of RFC 8601 section 2.7.1:

    pass       the signature is good
    fail       header or body are not what was signed, or the signature has run out
    policy     it may be good, but not good enough for us: rsa-sha1, a weak key, text added behind what l= covers
    permerror  it cannot be judged and never will: malformed, unknown method, no key, key revoked or not for this
    temperror  the key could not be looked up now
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clawmail.protocol.dkim.hashing import MessageHashes
from clawmail.protocol.dkim.keys import KeyCheck, check_signature, no_key
from clawmail.protocol.dkim.signature import Refusal, Signature, decode_base64, read_signature, read_tags
from clawmail.protocol.dns import Answer, Resolver
from clawmail.protocol.headers import HeaderField, RawMessage

#: signatures of a message that are judged, from the top; the rest is not looked at.
MAX_SIGNATURES = 8
#: octets of a message from which on it is hashed in a thread: this much takes about a millisecond.
THREAD_BYTES = 128 * 1024
#: why no signature is judged on a header that is not looked at as a whole.
TOO_LARGE = "the header is larger than what is looked at"


@dataclass(frozen=True, slots=True)
class DkimResult:
    """The judgement of one signature."""

    #: "pass", "fail", "policy", "permerror" or "temperror" (RFC 8601 section 2.7.1).
    result: str
    #: d=, as lower-case A-labels; "" when it could not be read.
    signing_domain: str
    #: s=.
    selector: str
    #: a=.
    algorithm: str
    #: i=, or "@" and the domain.
    identity: str
    #: why it did not pass, in words; "" for a pass.
    reason: str
    #: the key says t=y: treat this as if the message had no signature (RFC 6376 section 3.6.1).
    testing: bool
    #: size of the key; None when none was used.
    key_bits: int | None
    #: the first eight characters of b=, which tell signatures of one domain apart (RFC 6008 section 3).
    signature_start: str
    #: l= limits how much of the body is signed.
    limited: bool
    #: h= names Authentication-Results: taking such a field out of the message breaks the signature.
    signs_results: bool = False


async def verify_dkim(message: RawMessage, resolver: Resolver, *, now: float) -> tuple[DkimResult, ...]:
    """Judge the topmost signatures of a message, in their order; () when it has none.

    ``now`` is in seconds since 1970. Keys are asked for one after the other, each name once.
    """
    fields = message.by_name.get(b"dkim-signature")
    if not fields:
        return ()
    read = [_read(field, message, now) for field in fields[:MAX_SIGNATURES]]
    signatures = [signature for signature in read if isinstance(signature, Signature)]
    answers: dict[str, Answer[bytes]] = {}
    for signature in signatures:
        if signature.key_name not in answers:
            answers[signature.key_name] = await resolver.txt(signature.key_name)
    if len(message.raw) > THREAD_BYTES and signatures:
        return await asyncio.to_thread(_judge_all, message, read, answers)
    return _judge_all(message, read, answers)


def _read(field: HeaderField, message: RawMessage, now: float) -> Signature | DkimResult:
    tags = read_tags(field)
    if isinstance(tags, Refusal):
        return _refused(tags, {})
    if message.truncated:
        # h= counts from the bottom, which we have not seen: another From may be hidden there.
        return _refused(Refusal("permerror", TOO_LARGE), tags)
    signature = read_signature(field, tags, now=now)
    return _refused(signature, tags) if isinstance(signature, Refusal) else signature


def _refused(refusal: Refusal, tags: Mapping[str, bytes]) -> DkimResult:
    """The result of a field that is no usable signature, with what could be read of it."""
    domain, selector, algorithm = (tags.get(tag, b"")[:255].decode("utf-8", "replace") for tag in "dsa")
    return DkimResult(
        result=refusal.result,
        signing_domain=domain.lower(),
        selector=selector,
        algorithm=algorithm,
        identity=tags.get("i", b"")[:255].decode("utf-8", "replace"),
        reason=refusal.reason,
        testing=False,
        key_bits=None,
        signature_start=base64.b64encode(decode_base64(tags.get("b", b""))[:6]).decode(),
        limited="l" in tags,
    )


def _judge_all(
    message: RawMessage, read: Sequence[Signature | DkimResult], answers: Mapping[str, Answer[bytes]]
) -> tuple[DkimResult, ...]:
    """Everything that needs no waiting; runs in a thread for a large message."""
    hashes = MessageHashes(message, [item.body_part for item in read if isinstance(item, Signature)])
    return tuple(
        [_judge(item, answers[item.key_name], hashes) if isinstance(item, Signature) else item for item in read]
    )


def _judge(signature: Signature, answer: Answer[bytes], hashes: MessageHashes) -> DkimResult:
    check = verify_signature(signature, answer, hashes)
    return DkimResult(
        result=check.result,
        signing_domain=signature.domain,
        selector=signature.selector,
        algorithm=signature.algorithm,
        identity=signature.identity,
        reason=check.reason,
        testing=check.testing,
        key_bits=check.bits,
        signature_start=base64.b64encode(signature.signature[:6]).decode(),
        limited=signature.body_part.length is not None,
        signs_results=b"authentication-results" in signature.names,
    )


def verify_signature(signature: Signature, answer: Answer[bytes], hashes: MessageHashes) -> KeyCheck:
    """Judge a signature with the answer for its key (RFC 6376 section 6.1.2 and 6.1.3).

    The header comes first, although the RFC starts with the body: bh= is part of the header, so a body is hashed only
    for those who really signed its hash.
    """
    if not answer.found:
        return no_key(signature, answer)
    digest = hashes.header(signature.names, signature.field, signature.header_form)
    check = check_signature(answer.records, signature, digest)
    if check.result != "pass":
        return check
    form, length = signature.body_part
    body = hashes.body(form)
    if length is not None and length > body.length:
        return check._replace(result="fail", reason=f"the body is shorter than what was signed (l={length})")
    if body.digests[length] != signature.body_hash:
        return check._replace(result="fail", reason="the body is not what was signed (bh=)")
    if length is not None and length < body.length:
        # RFC 6376 section 8.2: what follows may have been added by anyone.
        added = body.length - length
        return check._replace(result="policy", reason=f"{added} octets of the body are not signed (l={length})")
    return check
