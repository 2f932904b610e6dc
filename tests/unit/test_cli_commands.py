"""The commands without a store: their help, their documentation, and how they read and show values."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from clawmail.__main__ import COMMANDS, main
from clawmail.cli import tryout
from clawmail.cli.archive import _form_of
from clawmail.cli.options import print_table, run
from clawmail.cli.values import Size, ask_first, size_text
from clawmail.core.archive.files import Form

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def _rows() -> dict[str, str]:
    """Command → example, as the documentation's table has them."""
    return {
        cells[0].strip("` "): cells[2].strip("` ")
        for line in DOCS.read_text().splitlines()
        if (cells := line.strip("| ").split(" | ")) and line.startswith("| `")
    }


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that words lead to, and the words behind it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words:
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    return command, words


def test_every_command_is_documented() -> None:
    rows = _rows()
    for name in COMMANDS:
        command, _ = _command([name])
        parts = [f"{name} {sub}" for sub in command.commands] if isinstance(command, click.Group) else [name]
        assert name in rows or all(part in rows for part in parts), f"docs/cli.md lacks {name}"


@pytest.mark.parametrize("command", _rows())
def test_every_example_is_understood(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "message.eml").touch()
    program, *words = shlex.split(_rows()[command].partition(" > ")[0])
    assert (program, words[: len(command.split())]) == ("clawmail", command.split())
    found, rest = _command(words)
    found.make_context(command, rest)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_helps(name: str) -> None:
    runner = CliRunner()
    assert COMMANDS[name][2] in re.sub(r"\s+", " ", runner.invoke(main, ["--help"]).output)
    command, _ = _command([name])
    for words in [[name], *([name, sub] for sub in getattr(command, "commands", ()))]:
        shown = runner.invoke(main, [*words, "--help"])
        assert shown.exit_code == 0
        assert "Usage" in shown.output


def test_a_table_that_is_no_terminals_is_cut_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"a_b": "x" * 500, "c": None, "d": True}], ("a_b", "c", "d"), empty="")
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["a", "b", "c", "d"]
    assert row.split() == ["x" * 500, "-", "yes"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500MiB", 524_288_000), ("1.5k", 1536), ("2 GB", 2 * 10**9), ("1T", 2**40), ("7b", 7), ("1.0", 1)],
)
def test_sizes(text: str, size: int) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "-1", "MiB", "1 mile", "1e9", "9999999999TiB", "١", "1,5G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Size().convert(text, None, None)


def test_sizes_are_shown_in_the_unit_that_fits() -> None:
    shown = [size_text(size) for size in (0, 1023, 1024, 524_288_000, 2**40, 5 * 2**50)]
    assert shown == ["0 B", "1023 B", "1.0 KiB", "500.0 MiB", "1.0 TiB", "5120.0 TiB"]


def test_a_terminal_is_asked_and_a_script_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_first("Sure?", yes=False)  # a test has no terminal

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr(click, "confirm", lambda question, abort: asked.append(question))
    ask_first("Sure?", yes=True)
    assert asked == []
    ask_first("Sure?", yes=False)
    assert asked == ["Sure?"]


def test_what_may_not_be_read_is_told_with_a_way_out() -> None:
    async def main() -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/clawmail/secret.key")

    with pytest.raises(click.ClickException, match=r"secret\.key'\. Run this as root, or as the server's user"):
        run(main)


@pytest.mark.parametrize(
    ("word", "said"),
    [("sevre", "No such command 'sevre' (did you mean serve?)."), ("frobnicate", "No such command 'frobnicate'.")],
)
def test_a_mistyped_command_is_answered_with_the_nearest(word: str, said: str) -> None:
    done = CliRunner().invoke(main, [word])
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("name", "given", "form"),
    [("a.mbox", None, "mbox"), ("a.jsonl", None, "jsonl"), (".", None, "maildir"), ("-", "jsonl", "jsonl")],
)
def test_the_form_of_an_archive_is_told_by_its_path(name: str, given: Form | None, form: Form, tmp_path: Path) -> None:
    assert _form_of(Path(name) if name == "-" else tmp_path / name, given) == form


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["export", "--inbox", "a@b.test", "mail.txt"],
            "--format is missing, and mail.txt does not tell it",
        ),
        (["import", "--inbox", "a@b.test", "-"], "--format is missing, and - does not tell it"),
        (["import", "--inbox", "a@b.test", "--format", "maildir", "-"], "a Maildir is a directory"),
        (["check", "spf", "--ip", "1.2.3", "--mail-from", "a@b.test"], "'1.2.3' is not an IP address"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(words: list[str], said: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert said in re.sub(r"\s+", " ", done.output)


def test_who_tries_it_out_is_told_of_a_replaced_key_only() -> None:
    first, later = (tryout.lines(("127.0.0.1", 1), ("127.0.0.1", 2), "cm_1", "./var", again) for again in (False, True))
    assert (tryout.REPLACED in first, tryout.REPLACED in later) == (False, True)


def test_who_tries_it_out_may_have_webhooks_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tryout.settings("./var").webhooks.allow_private is True
    monkeypatch.setenv("CLAWMAIL_WEBHOOKS_ALLOW_PRIVATE", "false")
    assert tryout.settings("./var").webhooks.allow_private is False
