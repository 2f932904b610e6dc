"""Writing a golden's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

NOW = 1_700_000_000


def write_golden(
    folder: Path,
    odd: str,
    message: bytes,
    zone: Mapping[str, object],
    expected: Sequence[Mapping[str, object]] | Mapping[str, object],
) -> None:
    """Make the folder, or make it anew."""
    folder.mkdir(exist_ok=True)
    (folder / "odd.txt").write_text(odd + "\n", encoding="utf-8")
    (folder / "message.eml").write_bytes(message)
    (folder / "zone.json").write_text(json.dumps(zone, indent=2) + "\n", encoding="utf-8")
    content = {"now": NOW, "result": expected}
    (folder / "expected.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
