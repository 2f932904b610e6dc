"""Validating a chain (RFC 8617 section 5.2).

The newest message signature must hold, for it signs the message as it arrived here, and so must every seal, for they
sign what each hop saw. Older message signatures may well be broken, which is what ARC is for; how far back they hold is
told as ``oldest_pass``. Keys are asked for as they are needed, newest first, and a chain that fails asks for no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from clawmail.protocol.arc.chain import ArcResult, ArcSet, BrokenChain, chain_status_problem, read_chain, seal_digests
from clawmail.protocol.dkim.hashing import BodyPart, MessageHashes
from clawmail.protocol.dkim.keys import KeyCheck, check_signature, no_key
from clawmail.protocol.dkim.signature import (
    Refusal,
    Signature,
    malformed,
    read_covering_signature,
    read_signer,
)
from clawmail.protocol.dkim.verify import THREAD_BYTES, TOO_LARGE, verify_signature
from clawmail.protocol.dns import Answer, Resolver
from clawmail.protocol.headers import RawMessage

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def verify_arc(message: RawMessage, resolver: Resolver, *, now: float) -> ArcResult:
    """Judge the chain on a message; ``now`` is in seconds since 1970."""
    sets = read_chain(message)
    if isinstance(sets, BrokenChain):
        return ArcResult("fail", sets.instance, sets.reason, -1, (), sets.ended)
    if not sets:
        return ArcResult("none", 0, "the message has no ARC sets", -1, ())
    problem = TOO_LARGE if message.truncated else chain_status_problem(sets)
    if problem:
        return ArcResult("fail", len(sets), problem, -1, _sealers(sets))
    return await _Validation(message, sets, resolver, now).run()


def _sealers(sets: Sequence[ArcSet]) -> tuple[str, ...]:
    return tuple(arc_set.seal_tags.get("d", b"")[:255].decode("utf-8", "replace").lower() for arc_set in sets)


class _Validation:
    """One chain of good shape while its signatures are checked."""

    def __init__(self, message: RawMessage, sets: Sequence[ArcSet], resolver: Resolver, now: float) -> None:
        self._sets = sets
        self._resolver = resolver
        self._now = now
        self._large = len(message.raw) > THREAD_BYTES
        self._answers: dict[str, Answer[bytes]] = {}
        self._signatures = [read_message_signatures(arc_set, now=now) for arc_set in sets]
        usable = [signature for read in self._signatures if not isinstance(read, Refusal) for signature in read]
        self._hashes = MessageHashes(message, [signature.body_part for signature in usable])

    async def run(self) -> ArcResult:
        newest = len(self._sets)
        check = await self._message_signature(newest)
        unknown = ""
        if check.result == "temperror":
            unknown = f"ARC-Message-Signature i={newest}: {check.reason}"
        elif check.result != "pass":
            return self._ended("fail", f"ARC-Message-Signature i={newest}: {check.reason}")
        digests = await self._compute(lambda: list(seal_digests(self._sets)))
        for instance in range(newest, 0, -1):
            check = await self._seal(instance, digests[instance - 1])
            if check.result == "temperror":
                unknown = unknown or f"ARC-Seal i={instance}: {check.reason}"
            elif check.result != "pass":
                return self._ended("fail", f"ARC-Seal i={instance}: {check.reason}")
        if unknown:
            return self._ended("temperror", unknown)
        return ArcResult("pass", newest, "", await self._oldest_pass(), _sealers(self._sets))

    def _ended(self, result: str, reason: str) -> ArcResult:
        return ArcResult(result, len(self._sets), reason, -1, _sealers(self._sets))

    async def _oldest_pass(self) -> int:
        for instance in range(len(self._sets) - 1, 0, -1):
            if (await self._message_signature(instance)).result != "pass":
                return instance + 1
        return 0

    async def _message_signature(self, instance: int) -> KeyCheck:
        signatures = self._signatures[instance - 1]
        if isinstance(signatures, Refusal):
            return KeyCheck(*signatures)
        check = KeyCheck("fail", "")
        for signature in signatures:
            answer = await self._key(signature)
            check = await self._compute(verify_signature, signature, answer, self._hashes)
            if check.result == "pass":
                break
        return check

    async def _seal(self, instance: int, digest: bytes) -> KeyCheck:
        signature = read_seal(self._sets[instance - 1], now=self._now)
        if isinstance(signature, Refusal):
            return KeyCheck(*signature)
        answer = await self._key(signature)
        return check_signature(answer.records, signature, digest) if answer.found else no_key(signature, answer)

    async def _key(self, signature: Signature) -> Answer[bytes]:
        name = signature.key_name
        if name not in self._answers:
            self._answers[name] = await self._resolver.txt(name)
        return self._answers[name]

    async def _compute(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do ``work``, in a thread when the message is large."""
        return await asyncio.to_thread(work, *args, **kwargs) if self._large else work(*args, **kwargs)


def read_message_signatures(arc_set: ArcSet, *, now: float) -> list[Signature] | Refusal:
    """Read the ARC-Message-Signature of a set (RFC 8617 section 4.1.2).

    Without c= it stands for simple/simple, as in DKIM; the drafts before the RFC said relaxed/relaxed, and sealers that
    follow them are still out there, so that is tried second.
    """
    tags = arc_set.message_tags
    if "h" not in tags or "bh" not in tags:
        return malformed("the tag h= or bh= is missing")
    read: list[Signature] = []
    for form in (b"simple/simple",) if "c" in tags else (b"simple/simple", b"relaxed/relaxed"):
        signature = read_covering_signature(arc_set.message_signature, tags, default_form=form, now=now)
        if isinstance(signature, Refusal):
            return signature
        read.append(signature)
    # No ARC field should be covered, but sealers of the drafts' time did cover the other two. A seal is made after it.
    if b"arc-seal" in read[0].names:
        return Refusal("permerror", "the message signature covers ARC-Seal (h=)")
    return read


def read_seal(arc_set: ArcSet, *, now: float) -> Signature | Refusal:
    """Read the ARC-Seal of a set (RFC 8617 section 4.1.3)."""
    tags = arc_set.seal_tags
    if "h" in tags:
        return Refusal("permerror", "a seal must not have h=")
    signer = read_signer(tags, now=now)
    if isinstance(signer, Refusal):
        return signer
    algorithm, domain, selector, signature = signer
    return Signature(
        field=arc_set.seal,
        algorithm=algorithm,
        domain=domain,
        selector=selector,
        signature=signature,
        header_form="relaxed",
        names=(),
        body_part=BodyPart("relaxed", 0),
        body_hash=b"",
        identity=f"@{domain}",
        identity_domain=domain,
    )
