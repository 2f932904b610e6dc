"""The house rule: a module imports only from floors below its own, never sideways between packages of one floor."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "base": 0,
    "config": 0.5,
    "protocol": 1,
    "model": 2,
    "store": 3,
    "net": 3,
    "core": 4,
    "smtpd": 5,
    "api": 5,
    "worker": 5,
    "webhook_worker": 5,
    "running": 5.5,
    "app": 6,
    # The command line is an entrance that also starts the whole server, so it stands on the roof.
    "cli": 7,
    "__main__": 8,
}
#: each outside library has one address.
ADDRESSES = {
    "asyncpg": {"store"},
    "aiosmtpd": {"smtpd"},
    "aiohttp": {"api", "net"},
    "dns": {"net"},
    "re2": {"core"},
    "argon2": {"base"},
    "authres": {"protocol"},
    "limits": {"core"},
    "checkdmarc": {"net"},
    "structlog": {"base"},
}
MODULES = sorted((ROOT / "clawmail").rglob("*.py"))


def room_of(path: Path) -> str:
    """The package, or the top-level module, that a file belongs to."""
    return path.relative_to(ROOT / "clawmail").parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, also inside functions, as dotted names."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            found.add(".".join(part for part in (base, node.module or "") if part))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOORS, f"{path}: a room that is on no floor"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "clawmail" or len(parts) == 1 or parts[1] == room:
            continue
        assert FLOORS[parts[1]] < FLOORS[room], f"{path.name} on floor {FLOORS[room]} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_library_has_one_address(path: Path) -> None:
    for name in imports_of(path):
        library = name.split(".")[0]
        if library in ADDRESSES:
            assert room_of(path) in ADDRESSES[library], f"{library} is imported by {path}"
