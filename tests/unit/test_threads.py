"""Threads that are there before they are needed."""

from __future__ import annotations

import threading

from clawmail.base.threads import started_threads


def test_all_threads_of_a_pool_run_before_it_is_given_work() -> None:
    pool = started_threads(3, "mine")
    there = {thread.name for thread in threading.enumerate() if thread.name.startswith("mine")}
    assert len(there) == 3
    pool.submit(int).result(10)
    assert {thread.name for thread in threading.enumerate() if thread.name.startswith("mine")} == there
    pool.shutdown()
