"""The ARC sets of a message, and the shape a chain must have (RFC 8617 section 4.2, 4.3 and 5.2).

Sets are found by the instance tag ``i=`` of their fields, whatever the order of the fields in the header. A chain is
well formed when instances run from 1 to at most 50 without a gap, each set has each of its three fields once, and the
seals say ``cv=none`` first and ``cv=pass`` from then on. Everything else is a failed chain, and stays one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from clawmail.protocol.dkim.canonical import canonical_field, canonical_signature_field
from clawmail.protocol.dkim.signature import Refusal, read_tags, show
from clawmail.protocol.headers import HeaderField, RawMessage, unfold

#: sets of a chain (RFC 8617 section 4.2.1).
MAX_SETS = 50

# arc-info = instance [CFWS] ";" authres-payload; instance = [CFWS] %s"i" [CFWS] "=" [CFWS] 1*2DIGIT
_CFWS = rb"(?:[ \t]|\([^()]*+\))*+"
_RESULTS_INSTANCE = re.compile(_CFWS + rb"i" + _CFWS + rb"=" + _CFWS + rb"([0-9]++)" + _CFWS + rb";")
_INSTANCE = re.compile(rb"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The judgement of a chain."""

    #: "none", "pass", "fail", or "temperror" when a key could not be looked up.
    result: str
    #: the highest instance found; 0 when there is none.
    instance: int
    #: why the chain is not a "pass", in words.
    reason: str
    #: the oldest instance whose message signature still holds, 0 when all do (RFC 8617 section 5.2 step 5); -1 when the
    #: chain was not followed that far.
    oldest_pass: int
    #: the domains that sealed, first hop first, as far as they could be read.
    sealers: tuple[str, ...]
    #: the newest seal says ``cv=fail``: nothing may be added to this chain (section 5.1 step 2).
    ended: bool = False


class ArcSet(NamedTuple):
    """The three fields of one instance."""

    results: HeaderField
    message_signature: HeaderField
    #: the tags of ``message_signature``.
    message_tags: Mapping[str, bytes]
    seal: HeaderField
    #: the tags of ``seal``.
    seal_tags: Mapping[str, bytes]


class BrokenChain(NamedTuple):
    """Fields that do not make a chain."""

    #: the highest instance that could be read.
    instance: int
    reason: str
    #: the newest seal says ``cv=fail``.
    ended: bool = False


def read_chain(message: RawMessage) -> tuple[ArcSet, ...] | BrokenChain:
    """The sets of a message, instance 1 first; () when it has none."""
    results = message.by_name.get(b"arc-authentication-results", ())
    signatures = message.by_name.get(b"arc-message-signature", ())
    seals = message.by_name.get(b"arc-seal", ())
    highest = max(len(results), len(signatures), len(seals))
    if highest == 0:
        return ()
    if highest > MAX_SETS:
        return BrokenChain(MAX_SETS, f"there are more than {MAX_SETS} sets")
    numbered_results = _number("ARC-Authentication-Results", results)
    numbered_signatures = _number("ARC-Message-Signature", signatures)
    numbered_seals = _number("ARC-Seal", seals)
    found = (numbered_results, numbered_signatures, numbered_seals)
    instances = set().union(*(numbered.fields for numbered in found))
    highest = max(instances, default=0)
    newest = numbered_seals.fields.get(highest)
    if newest is not None and newest[1].get("cv") == b"fail":
        return BrokenChain(highest, f"the seal i={highest} says that the chain had failed (cv=fail)", ended=True)
    for numbered in found:
        if numbered.problem:
            return BrokenChain(highest, numbered.problem)
    if any(set(numbered.fields) != set(range(1, highest + 1)) for numbered in found):
        return BrokenChain(highest, f"the sets do not have each of their three fields from i=1 to i={highest}")
    return tuple(
        ArcSet(numbered_results.fields[i][0], *numbered_signatures.fields[i], *numbered_seals.fields[i])
        for i in range(1, highest + 1)
    )


class _Numbered(NamedTuple):
    """The fields of one name by their instance."""

    fields: Mapping[int, tuple[HeaderField, Mapping[str, bytes]]]
    #: what was wrong with one of them, "" when nothing.
    problem: str


def _number(name: str, fields: Sequence[HeaderField]) -> _Numbered:
    numbered: dict[int, tuple[HeaderField, Mapping[str, bytes]]] = {}
    problem = ""
    for field in fields:
        tags = _results_tags(field) if name == "ARC-Authentication-Results" else read_tags(field)
        if isinstance(tags, Refusal):
            problem = f"{name}: {tags.reason}"
            continue
        value = tags.get("i", b"")
        instance = int(value) if _INSTANCE.fullmatch(value) else 0
        if not 1 <= instance <= MAX_SETS:
            problem = f"{name}: the instance i={show(value)} is not a number from 1 to {MAX_SETS}"
        elif instance in numbered:
            problem = f"{name}: the instance i={instance} is there twice"
        else:
            numbered[instance] = (field, tags)
    return _Numbered(numbered, problem)


def _results_tags(field: HeaderField) -> dict[str, bytes]:
    match = _RESULTS_INSTANCE.match(unfold(field.value))
    return {"i": match[1]} if match else {}


def chain_status_problem(sets: Sequence[ArcSet]) -> str:
    """What is wrong with the ``cv=`` of the seals (RFC 8617 section 5.2 step 3.3); "" when nothing."""
    for instance, arc_set in enumerate(sets, start=1):
        status = arc_set.seal_tags.get("cv")
        expected = b"none" if instance == 1 else b"pass"
        if status != expected:
            return f"the seal i={instance} says cv={show(status or b'')} where cv={expected.decode()} must stand"
    return ""


def seal_digests(sets: Sequence[ArcSet]) -> Iterator[bytes]:
    """What each seal signs, instance 1 first: the SHA-256 of all sets up to its own (RFC 8617 section 5.1.1).

    The seal of a set signs what the one before it signed, and more: one running hash serves them all.
    """
    running = hashlib.sha256()
    for arc_set in sets:
        running.update(canonical_field(arc_set.results, "relaxed"))
        running.update(canonical_field(arc_set.message_signature, "relaxed"))
        own = running.copy()
        own.update(canonical_signature_field(arc_set.seal, "relaxed"))
        yield own.digest()
        running.update(canonical_field(arc_set.seal, "relaxed"))
