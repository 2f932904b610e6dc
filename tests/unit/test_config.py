"""Settings: file, environment, the original's names; and mistakes that are named, all at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from clawmail.cli.config import example_text
from clawmail.config import ALIASES, ConfigError, cannot_listen, load, setting_types

ROOT = Path(__file__).parents[2]
NOTHING = Path("/dev/null")


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_the_example_is_what_the_types_say() -> None:
    assert (ROOT / "config.example.toml").read_text() == example_text(), (
        "config.example.toml is out of date: clawmail config example > config.example.toml"
    )


def test_every_line_of_the_example_can_be_switched_on(tmp_path: Path) -> None:
    switched_on = [
        line.removeprefix("# ") if line.split()[2:3] == ["="] else line for line in example_text().splitlines()
    ]
    assert load(written(tmp_path, "\n".join(switched_on)), {}) == load(NOTHING, {})


def test_the_environment_beats_the_file_and_our_names_beat_the_originals(tmp_path: Path) -> None:
    path = written(tmp_path, '[server]\napp_domain = "file.test"\n')
    assert load(path, {}).server.app_domain == "file.test"
    assert load(path, {"APP_DOMAIN": "alias.test"}).server.app_domain == "alias.test"
    both = {"APP_DOMAIN": "alias.test", "CLAWMAIL_SERVER_APP_DOMAIN": "ours.test"}
    assert load(path, both).server.app_domain == "ours.test"


def test_the_originals_names_mean_what_they_meant() -> None:
    settings = load(
        NOTHING,
        {
            "SMTP_PORT": "2526",
            "PORT": "8080",
            "SERVER_IP": "203.0.113.10",
            "TRUST_PROXY": "true",
            "ATTACHMENT_TTL_HOURS": "0.5",
            "INBOX_RATE_LIMIT_SCOPE": "email",
            "DKIM_ENCRYPTION_KEY": "ab" * 32,
            "DATABASE_URL": "postgresql://localhost/mail",
        },
    )
    assert settings.smtp.listen == ["0.0.0.0:2526"]
    assert settings.api.listen == ["0.0.0.0:8080"]
    assert settings.server.public_ip == "203.0.113.10"
    assert settings.api.trust_proxy == 1
    assert settings.retention.attachment_ttl_hours == 0.5
    assert settings.limits.inbox_scope == "email"
    assert settings.server.secret_key == "ab" * 32
    assert settings.database.url == "postgresql://localhost/mail"


def test_every_alias_names_a_setting() -> None:
    known = setting_types()
    for setting in ALIASES.values():
        section, key = setting.split(".")
        assert key in known[section]


def test_the_hostname_follows_from_the_domain() -> None:
    assert load(NOTHING, {"APP_DOMAIN": "example.org"}).hostname == "mx.example.org"
    assert load(NOTHING, {"SMTP_BANNER_HOSTNAME": "mail.example.org"}).hostname == "mail.example.org"


def test_every_mistake_is_named_at_once_with_the_nearest_known_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[smpt]\nlisten = []\n[smtp]\nlisen = ["0.0.0.0:25"]\nmax_recipients = "many"\n[api]\nlisten = ["nowhere"]\n',
    )
    with pytest.raises(ConfigError) as caught:
        load(path, {"CLAWMAIL_SMTP_LISTENN": "x", "CLAWMAIL_OUTBOUND_PORT": "70000"})
    said = "\n".join(caught.value.problems)
    assert "unknown section [smpt] (did you mean smtp?)" in said
    assert "unknown setting smtp.lisen (did you mean smtp.listen?)" in said
    assert "smtp.max_recipients" in said
    assert "api.listen: 'nowhere' is not host:port" in said
    assert "CLAWMAIL_SMTP_LISTENN (did you mean CLAWMAIL_SMTP_LISTEN?)" in said
    assert "outbound.port = 70000" in said


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"DKIM_ENCRYPTION_KEY": "short"}, "64 hex digits"),
        ({"SMTP_TLS_CERT": "/x.pem"}, "one is set without the other"),
        ({"CLAWMAIL_OUTBOUND_RETRY_SCHEDULE_SECONDS": "[]"}, "at least one gap"),
        ({"CLAWMAIL_SERVER_DATA_DIR": ""}, "expected a directory"),
        ({"CLAWMAIL_LIMITS_ENABLED": "perhaps"}, "limits.enabled"),
    ],
)
def test_what_types_cannot_say_is_said_all_the_same(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(NOTHING, environment)


def test_a_missing_file_is_said_in_words() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Path("/nowhere/config.toml"), {})


@pytest.mark.parametrize(
    "server", ["192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53", "2001:db8::1", "ns.example", "::1"]
)
def test_name_servers_are_written_in_any_usual_way(server: str) -> None:
    assert load(NOTHING, {"CLAWMAIL_DNS_NAMESERVERS": server}).dns.nameservers == [server]


def test_a_listener_in_brackets_is_a_list_of_one() -> None:
    assert load(NOTHING, {"CLAWMAIL_SMTP_LISTEN": "[::]:25"}).smtp.listen == ["[::]:25"]


@pytest.mark.parametrize("server", [":53", "192.0.2.1:dns", "a b", "[]:53"])
def test_a_name_server_that_is_none_is_named(server: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(NOTHING, {"CLAWMAIL_DNS_NAMESERVERS": f'["{server}"]'})
    assert caught.value.problems == [f"dns.nameservers: {server!r} is not host or host:port"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EADDRINUSE, "another program listens there"), (errno.EACCES, "CAP_NET_BIND"), (errno.ENOTCONN, "unusual")],
)
def test_a_listener_that_cannot_be_opened_names_its_setting(number: int, reason: str) -> None:
    told = str(cannot_listen(OSError(number, "unusual"), "smtp.listen", "0.0.0.0:25"))
    assert told.startswith("smtp.listen = 0.0.0.0:25: ")
    assert reason in told
    assert "CLAWMAIL_SMTP_LISTEN" in told
