"""Whom a task belongs to: one that works for all who ask is the house's, whoever happened to ask first."""

from __future__ import annotations

from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "clawmail"
#: where a task is started by the house itself, when it opens or from a loop of its own, or works for one tenant alone.
OWN = {
    "core/access.py": "started when the house opens",
    "core/upkeep.py": "started when the house opens",
    "core/outbound/queue.py": "from the claim's loop; a way to a destination serves whoever sends there",
    "core/outbound/site.py": "a farewell",
    "core/webhooks/queue.py": "says itself whose it is",
    "net/dialer.py": "tries addresses for one connection",
    "store/db.py": "started when the house opens",
    "store/embedded.py": "started when the house opens",
}


def test_what_is_started_on_a_request_says_whose_it_is() -> None:
    starts = {
        str(path.relative_to(PROGRAM))
        for floor in ("core", "net", "store")
        for path in (PROGRAM / floor).rglob("*.py")
        if "create_task(" in path.read_text()
    }
    assert starts == OWN.keys()
