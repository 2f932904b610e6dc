"""Settings from a TOML file and the environment, checked as a whole at boot.

The environment beats the file, and ``CLAWMAIL_<SECTION>_<KEY>`` beats the shorter names that the original Clawmail's
scripts use. Every mistake is reported at once, with the nearest known name, so that nobody fixes them one by one.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
import re
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from clawmail.base.settings import Settings
from clawmail.base.validation import in_words

DEFAULT_PATH = Path("/etc/clawmail/config.toml")

#: names of the original's environment: the setting they fill.
ALIASES = {
    "APP_DOMAIN": "server.app_domain",
    "SMTP_BANNER_HOSTNAME": "server.hostname",
    "SERVER_IP": "server.public_ip",
    "MX_SERVER_DOMAIN_NAME": "server.mx_label",
    "DKIM_ENCRYPTION_KEY": "server.secret_key",
    "DATABASE_URL": "database.url",
    "SMTP_PORT": "smtp.listen",
    "SMTP_TLS_CERT": "smtp.tls_cert",
    "SMTP_TLS_CERT_PATH": "smtp.tls_cert",
    "SMTP_TLS_KEY": "smtp.tls_key",
    "SMTP_TLS_KEY_PATH": "smtp.tls_key",
    "PORT": "api.listen",
    "DOMAIN_REGISTER_TOKEN": "api.domain_register_token",
    "TRUST_PROXY": "api.trust_proxy",
    "INBOX_RATE_LIMIT_SCOPE": "limits.inbox_scope",
    "REDIS_URL": "limits.storage_url",
    "ATTACHMENT_TTL_HOURS": "retention.attachment_ttl_hours",
    "CATCH_ALL_LOCAL_PART": "inbox.catch_all_local_part",
    "INBOX_STORAGE_QUOTA_BYTES": "inbox.storage_quota_bytes",
}
PREFIX = "CLAWMAIL_"
#: environment names of ours that are no settings.
NOT_SETTINGS = frozenset({"CLAWMAIL_CONFIG"})

#: host, host:port, [v6], [v6]:port, or a bare IPv6 address.
NAME_SERVER = re.compile(r"(\[[^\[\]\s]+\]|[^\[\]\s:]+)(:\d{1,5})?|[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F:.]*(%\w+)?")

Sections = dict[str, dict[str, Any]]


class ConfigError(Exception):
    """One or more settings are wrong; ``problems`` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def setting_types() -> dict[str, dict[str, Any]]:
    """``{section: {key: type}}`` of every setting."""
    return {section: get_type_hints(kind, include_extras=True) for section, kind in get_type_hints(Settings).items()}


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    ``path``: the file; without it ``$CLAWMAIL_CONFIG``, else /etc/clawmail/config.toml if that is there, else defaults.
    ``environ``: the environment, ``os.environ`` unless given. Raises ConfigError with every problem found.
    """
    environ = os.environ if environ is None else environ
    problems: list[str] = []
    values = _from_file(_chosen(path, environ), problems)
    for section, keys in _from_environment(environ, problems).items():
        values.setdefault(section, {}).update(keys)
    settings = _convert(values, problems)
    if settings is not None:
        _check(settings, problems)
    if problems or settings is None:
        raise ConfigError(problems)
    return settings


def _chosen(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    if path is not None:
        return path
    if environ.get("CLAWMAIL_CONFIG"):
        return Path(environ["CLAWMAIL_CONFIG"])
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def _from_file(path: Path | None, problems: list[str]) -> Sections:
    if path is None:
        return {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: not TOML: {error}")
        return {}
    known = setting_types()
    values: Sections = {}
    for section, keys in document.items():
        if section not in known or not isinstance(keys, dict):
            problems.append(f"{path}: unknown section [{section}]{_nearest(section, known)}")
            continue
        for key, value in keys.items():
            if key not in known[section]:
                problems.append(f"{path}: unknown setting {section}.{key}{_nearest_setting(f'{section}.{key}', known)}")
            else:
                values.setdefault(section, {})[key] = value
    return values


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Sections:
    known = setting_types()
    by_variable = {
        f"{PREFIX}{section}_{key}".upper(): f"{section}.{key}" for section, keys in known.items() for key in keys
    }
    values: Sections = {}
    given = [(variable, setting) for variable, setting in ALIASES.items() if environ.get(variable)]
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
            if variable in by_variable:
                given.append((variable, by_variable[variable]))
            else:
                problems.append(f"unknown setting in the environment: {variable}{_nearest(variable, by_variable)}")
    for variable, setting in given:
        section, key = setting.split(".")
        text = _alias_value(variable, environ[variable])
        values.setdefault(section, {})[key] = _from_text(text, known[section][key])
    return values


def _alias_value(variable: str, text: str) -> str:
    """The original's values in our terms: a bare port is a listener, and Express's booleans count one proxy hop."""
    if variable == "SMTP_PORT":
        return f"0.0.0.0:{text}"
    if variable == "PORT":
        return text if ":" in text else f"0.0.0.0:{text}"
    if variable == "TRUST_PROXY" and text.lower() in {"true", "false"}:
        return "1" if text.lower() == "true" else "0"
    return text


def _from_text(text: str, kind: Any) -> Any:
    """An environment's text as the value its setting expects; what does not fit is left for the type check to name."""
    while get_origin(kind) is not None and hasattr(kind, "__metadata__"):
        kind = get_args(kind)[0]
    if get_origin(kind) is list:
        if text.lstrip().startswith("["):
            with contextlib.suppress(json.JSONDecodeError):  # "[::]:25" is a list of one, in brackets of its own
                return json.loads(text)
        items = [item.strip() for item in text.split(",") if item.strip()]
        return [_from_text(item, get_args(kind)[0]) for item in items]
    if kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _convert(values: Sections, problems: list[str]) -> Settings | None:
    sections: dict[str, Any] = {}
    for section, kind in get_type_hints(Settings).items():
        good: dict[str, Any] = {}
        for key, value in values.get(section, {}).items():
            try:
                msgspec.convert({key: value}, kind)
                good[key] = value
            except msgspec.ValidationError as error:
                problems.append(f"{section}.{key} = {value!r}: {in_words(str(error).split(' - at')[0])}")
        sections[section] = msgspec.convert(good, kind)
    return Settings(**sections)


def _check(settings: Settings, problems: list[str]) -> None:
    """What types alone cannot say."""
    for name, listeners in (
        ("smtp.listen", settings.smtp.listen),
        ("smtp.submission_listen", settings.smtp.submission_listen),
        ("smtp.submissions_listen", settings.smtp.submissions_listen),
        ("api.listen", settings.api.listen),
    ):
        for listener in listeners:
            try:
                parse_listener(listener)
            except ValueError as error:
                problems.append(f"{name}: {error}")
    for name, text in (
        ("server.public_ip", settings.server.public_ip),
        ("outbound.source_ip", settings.outbound.source_ip or "0.0.0.0"),
    ):
        try:
            ip_address(text)
        except ValueError:
            problems.append(f"{name}: {text!r} is not an IP address")
    if not settings.server.data_dir:
        problems.append("server.data_dir: expected a directory; . is the one that a program is started in")
    for server in settings.dns.nameservers:
        if not NAME_SERVER.fullmatch(server):
            problems.append(f"dns.nameservers: {server!r} is not host or host:port")
    if bool(settings.smtp.tls_cert) != bool(settings.smtp.tls_key):
        problems.append("smtp.tls_cert and smtp.tls_key: one is set without the other")
    key = settings.server.secret_key
    if key and (len(key) != 64 or any(c not in "0123456789abcdefABCDEF" for c in key)):
        problems.append("server.secret_key: expected 64 hex digits (openssl rand -hex 32)")
    if not settings.outbound.retry_schedule_seconds or min(settings.outbound.retry_schedule_seconds) < 0:
        problems.append("outbound.retry_schedule_seconds: expected at least one gap, none negative")
    if min(settings.webhooks.retry_schedule_seconds, default=0) < 0:
        problems.append("webhooks.retry_schedule_seconds: expected gaps that are not negative")
    if settings.webhooks.lease_seconds <= settings.webhooks.timeout_seconds:
        problems.append("webhooks.lease_seconds: expected more than webhooks.timeout_seconds")


def parse_listener(listener: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as a pair. Raises ValueError with what was expected."""
    host, colon, port = listener.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{listener!r} is not host:port")
    return host.strip("[]") or "0.0.0.0", int(port)


def cannot_listen(error: OSError, setting: str, listener: str) -> OSError:
    """What an operator is told when ``listener`` of ``setting`` cannot be opened: setting, reason, a way out."""
    reason = {
        errno.EADDRINUSE: "another program listens there, perhaps a server that was started before",
        errno.EADDRNOTAVAIL: "this machine does not have that address",
        errno.EACCES: "ports below 1024 need root or CAP_NET_BIND_SERVICE, which systemd/clawmail.service gives",
    }.get(error.errno or 0, str(error))
    variable = f"CLAWMAIL_{setting.replace('.', '_').upper()}"
    return OSError(f"{setting} = {listener}: {reason} (to listen elsewhere, set {setting} or {variable})")


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def _nearest_setting(name: str, known: Mapping[str, Mapping[str, Any]]) -> str:
    everything = {f"{section}.{key}": None for section, keys in known.items() for key in keys}
    return _nearest(name, everything)
