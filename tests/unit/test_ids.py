"""Ids: none twice, in the order they were made, also after a fork and from several threads."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from clawmail.base.ids import POOL_OCTETS, first_id_at, id_at, new_id, time_of

MANY = 3 * POOL_OCTETS // 8
RANDOM_BITS = (1 << 62) - 1


def test_ids_sort_as_they_were_made_and_are_of_version_7() -> None:
    made = [new_id() for _ in range(MANY)]
    assert made == sorted(set(made))
    assert {(one.version, one.variant) for one in made} == {(7, "specified in RFC 4122")}
    assert len({one.int & RANDOM_BITS for one in made}) == MANY


def test_threads_never_get_the_same_random_bits() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [one for part in pool.map(lambda _: [new_id() for _ in range(MANY)], range(4)) for one in part]
    assert len({one.int & RANDOM_BITS for one in made}) == len(made)


def test_a_forked_child_has_random_bits_of_its_own() -> None:
    new_id()  # so that there is a pool to inherit
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"".join(new_id().bytes[8:] for _ in range(8)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)
    ours = b"".join(new_id().bytes[8:] for _ in range(8))
    assert len(theirs) == len(ours) == 64
    assert not {theirs[at : at + 8] for at in range(0, 64, 8)} & {ours[at : at + 8] for at in range(0, 64, 8)}


def test_an_id_of_a_moment_has_its_place_among_the_others() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [first_id_at(moment), id_at(moment), id_at(moment, 1), id_at(moment + timedelta(milliseconds=1))]
    assert ids == sorted(ids)
    assert time_of(ids[1]) == moment
