"""``clawmail config``: check the settings, or print every one of them with its meaning, unit and default."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec

from clawmail.base.settings import Settings
from clawmail.cli.options import config_option, load_settings

INTRODUCTION = """\
# Every setting of Clawmail, with its meaning, unit and default. What you leave out keeps its default.
# Each is also an environment variable, CLAWMAIL_<SECTION>_<KEY>, which beats this file.
# Made by `clawmail config example`.
"""


@click.group()
def config() -> None:
    """Check the configuration, or print an example of it."""


@config.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the settings in force as JSON, secrets left out.")
def check(config_path: Path | None, as_json: bool) -> None:
    """Read the configuration and say what is wrong with it."""
    settings = load_settings(config_path)
    if as_json:
        shown = msgspec.to_builtins(settings)
        for section, key in (("server", "secret_key"), ("api", "domain_register_token"), ("database", "url")):
            if shown[section][key]:
                shown[section][key] = "[secret]"
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo(f"ok: the configuration is good; this server is {settings.hostname}")


@config.command()
def example() -> None:
    """Print every setting with its meaning, unit and default, as a TOML file."""
    click.echo(example_text(), nl=False)


def example_text() -> str:
    """The text of ``config.example.toml``, made from the types of the settings."""
    parts = [INTRODUCTION]
    for section, kind in get_type_hints(Settings).items():
        lines = [f"\n# {' '.join((kind.__doc__ or '').split())}", f"[{section}]"]
        defaults = kind()
        for key, annotation in get_type_hints(kind, include_extras=True).items():
            lines += [f"# {_description(annotation)}", f"# {key} = {_toml(getattr(defaults, key))}"]
        parts.append("\n".join(lines) + "\n")
    return "".join(parts)


def _description(annotation: Any) -> str:
    """The meaning of a setting, and the words it may have if there are only some."""
    metas = [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    text = "; ".join(m.description for m in metas if m.description)
    inner = get_args(annotation)[0] if metas else annotation
    choices = get_args(inner) if str(get_origin(inner)) == "typing.Literal" else ()
    return f"{text} ({', '.join(choices)})" if choices else text


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return json.dumps(value)
