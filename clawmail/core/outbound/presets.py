"""Limits per provider, from a TOML file that an operator can copy and edit.

Which provider a destination belongs to shows in the names of its MX hosts, never in the domain that a person writes
into an address: thousands of domains are hosted at Google and share its limits. An unknown host's own MX set is its
site.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from clawmail.core.outbound.pacing import Limits

#: hosts that make up a site's name; more would say nothing new.
MAX_NAMED_HOSTS = 4


@dataclass(frozen=True, slots=True)
class Provider:
    """A mail host known by name."""

    name: str
    mx_suffixes: tuple[str, ...]
    limits: Limits


class Reaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What certain words in a reply lead to."""

    contains: str
    provider: str = ""
    suspend_seconds: float = 0.0
    slow_seconds: float = 0.0
    messages_per_minute: float = 0.0


class PresetsError(Exception):
    """The presets file is wrong; the text says where."""


class Presets:
    """All limits, and who they are for."""

    def __init__(self, default: Limits, providers: Sequence[Provider], reactions: Sequence[Reaction]) -> None:
        self.default = default
        self._by_suffix = {suffix: provider for provider in providers for suffix in provider.mx_suffixes}
        self._by_name = {provider.name: provider for provider in providers}
        self._reactions = [(reaction, reaction.contains.lower()) for reaction in reactions]

    def site_of(self, primary_hosts: Sequence[str]) -> tuple[str, Limits]:
        """The site that hosts of the lowest preference make up: a provider's name, or the host names; its limits."""
        providers = {provider.name for host in primary_hosts if (provider := self._provider(host)) is not None}
        if len(providers) == 1:
            name = providers.pop()
            return name, self._by_name[name].limits
        return "+".join(primary_hosts[:MAX_NAMED_HOSTS]), self.default

    def _provider(self, host: str) -> Provider | None:
        labels = host.split(".")
        return next(
            (found for start in range(len(labels)) if (found := self._by_suffix.get(".".join(labels[start:])))), None
        )

    def reaction(self, site: str, reply_text: str) -> Reaction | None:
        """What a reply of ``site`` asks for beyond the one delivery it was given to."""
        text = reply_text.lower()
        return next((r for r, words in self._reactions if r.provider in ("", site) and words in text), None)


def load_presets(path: str = "", *, idle_seconds: float | None = None, processes: int = 1) -> Presets:
    """Reads the file at ``path``, or the one that came with the program. Raises PresetsError.

    ``idle_seconds`` takes the place of the file's default. ``processes`` that send from one address share what its
    owner may: each has an equal part.
    """
    try:
        text = Path(path).read_text() if path else files("clawmail").joinpath("data/presets.toml").read_text()
        values = tomllib.loads(text)
        base = _limits(values.get("default", {}), Limits())
        if idle_seconds is not None:
            base = dataclasses.replace(base, idle_seconds=idle_seconds)
        providers = [_provider(entry, base) for entry in values.get("provider", [])]
        reactions = msgspec.convert(values.get("reply", []), list[Reaction])
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError, KeyError, TypeError) as error:
        raise PresetsError(f"{path or 'built-in presets'}: {error}") from error
    return Presets(
        _part(base, processes),
        [dataclasses.replace(provider, limits=_part(provider.limits, processes)) for provider in providers],
        [
            msgspec.structs.replace(reaction, messages_per_minute=reaction.messages_per_minute / processes)
            for reaction in reactions
        ],
    )


def _part(limits: Limits, processes: int) -> Limits:
    """The limits of one of so many processes; each has one connection at least, or its mail would never go."""
    return dataclasses.replace(
        limits,
        connections=max(1, limits.connections // processes),
        start_connections=max(1, limits.start_connections // processes),
        messages_per_second=limits.messages_per_second / processes,
    )


def _provider(entry: dict[str, Any], base: Limits) -> Provider:
    name, suffixes = entry["name"], entry["mx_suffixes"]
    rest = {key: value for key, value in entry.items() if key not in ("name", "mx_suffixes")}
    return Provider(name, tuple(suffix.lower().strip(".") for suffix in suffixes), _limits(rest, base))


def _limits(values: dict[str, Any], base: Limits) -> Limits:
    limits = msgspec.convert(dataclasses.asdict(base) | values, Limits)
    unknown = values.keys() - {field.name for field in dataclasses.fields(Limits)}
    if unknown:
        raise KeyError(f"unknown key {sorted(unknown)[0]}")
    if limits.connections < 1 or limits.start_connections < 1 or limits.messages_per_connection < 1:
        raise KeyError("connections and messages_per_connection are at least 1")
    return limits
