"""``clawmail sender`` against a real database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from clawmail.__main__ import main
from tests.support.tenants import Tenant


async def clawmail(tmp_path: Path, database_url: str, *arguments: str) -> Result:
    """Runs the command beside the test's loop."""
    config = tmp_path / "config.toml"
    config.write_text(f'[server]\ndata_dir = "{tmp_path}"\n[database]\nurl = "{database_url}"\n')
    return await asyncio.to_thread(CliRunner().invoke, main, [*arguments, "--config", str(config)])


async def as_json(tmp_path: Path, database_url: str, *arguments: str) -> Any:
    """What it prints for scripts."""
    result = await clawmail(tmp_path, database_url, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_rules_come_and_go(tmp_path: Path, database_url: str, tenant: Tenant) -> None:
    said = await as_json(tmp_path, database_url, "sender", "block", "example.test", ".Sender.Test")
    assert (said["recipient"], said["verdict"], said["sender"]) == ("example.test", "block", ".sender.test")
    own = await as_json(tmp_path, database_url, "sender", "allow", "agent@example.test", "joe@sender.test")
    listed = await as_json(tmp_path, database_url, "sender", "list", "example.test")
    assert [row["recipient"] for row in listed] == ["example.test", "agent@example.test"]
    assert listed == await as_json(tmp_path, database_url, "sender", "list")
    assert (await as_json(tmp_path, database_url, "sender", "remove", "example.test", own["id"]))["removed"] is True
    assert await as_json(tmp_path, database_url, "sender", "list") == [said]
    table = await clawmail(tmp_path, database_url, "sender", "list")
    assert ".sender.test" in table.stdout


async def test_mistakes_are_named(tmp_path: Path, database_url: str, tenant: Tenant) -> None:
    for arguments, words in (
        (("block", "example.test", "two words"), "names no sender"),
        (("block", "nobody@example.test", "sender.test"), "There is no inbox nobody@example.test"),
        (("block", "unknown.test", "sender.test"), "unknown.test"),
    ):
        result = await clawmail(tmp_path, database_url, "sender", *arguments)
        assert result.exit_code == 1
        assert words in result.output
