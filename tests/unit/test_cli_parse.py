"""``clawmail parse``: one answer per file, one line per line."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from clawmail.cli.parse import parse_command

BOUNCE = Path(__file__).parent.parent / "golden" / "bounce" / "rfc3464-no-such-user" / "message.eml"
KEYS = [
    "subject", "from", "to", "cc", "reply_to", "date", "message_id", "in_reply_to", "references", "text", "html",
    "attachments",
]  # fmt: skip


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(parse_command, list(arguments), input=stdin)


def test_a_file_is_answered_with_what_the_store_would_keep(tmp_path: Path) -> None:
    path = tmp_path / "m.eml"
    path.write_bytes(
        b"From: =?utf-8?q?J=C3=B6rg?= <j@x.y>\nTo: team: a@x.y, b@x.y;\nDate: Fri, 20 Nov 2026 10:00:00 +0100\n"
        b"Message-ID: <1@x.y>\nReferences: <0@x.y>\nContent-Type: multipart/mixed; boundary=b\n\n"
        b"--b\n\none\n--b\nContent-Type: text/plain\n\ntwo\n--b\nContent-Type: text/csv; name=a.csv\n\n1\n2\n--b--\n"
    )
    result = run(str(path))
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert list(answer) == KEYS
    assert answer["from"] == {"name": "Jörg", "address": "j@x.y"}
    assert [box["address"] for box in answer["to"]] == ["a@x.y", "b@x.y"]
    assert answer["date"] == "2026-11-20T10:00:00+01:00"
    assert answer["text"] == "one\ntwo"
    assert answer["html"] is None
    assert answer["references"] == ["<0@x.y>"]
    (csv,) = answer["attachments"]
    assert (csv["filename"], csv["size"]) == ("a.csv", 4), "bare LF is read as CRLF: 1 CR LF 2"
    assert list(csv) == ["filename", "content_type", "size", "content_id", "disposition", "sha256"]


def test_an_empty_file_still_gets_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_bytes(b"")
    result = run(str(path), "--json")
    assert result.exit_code == 0
    assert list(json.loads(result.stdout)) == KEYS
    assert result.stdout.count("\n") == 1


def test_a_bounce_says_so() -> None:
    answer = json.loads(run(str(BOUNCE)).stdout)
    assert [(failed["recipient"], failed["hard"]) for failed in answer["bounce"]] == [("bob@example.com", True)]


def test_standard_input() -> None:
    assert json.loads(run("-", stdin=b"Subject: x\n\ny").stdout)["subject"] == "x"


def test_every_line_gets_one_line_in_order(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.eml").write_bytes(b"Subject: %d\n\nx" % number)
    good = [f"{tmp_path}/{number}.eml" for number in range(3)]
    lines = [
        good[0],
        f"{tmp_path}/none.eml",
        "",
        json.dumps({"file": good[1]}),
        "{broken",
        str(tmp_path),
        "a\0b",
        good[2],
    ]
    result = run("--jsonl", "-", stdin="\n".join(lines))
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer.get("subject") for answer in answers] == ["0", None, None, "1", None, None, None, "2"]
    for answer in answers[1], answers[2], answers[4], answers[5], answers[6]:
        assert list(answer) == ["error"]
    assert "none.eml" in answers[1]["error"]


def test_lines_may_come_from_a_file(tmp_path: Path) -> None:
    message, names = tmp_path / "m.eml", tmp_path / "names"
    message.write_bytes(b"Subject: x\r\n\r\n")
    names.write_text(f"{message}\n")
    assert json.loads(run("--jsonl", str(names)).stdout)["subject"] == "x"
    assert run("--jsonl", str(tmp_path / "none")).exit_code == 1


def test_a_file_that_is_not_there_is_an_error_on_the_other_stream(tmp_path: Path) -> None:
    result = run(str(tmp_path / "none"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "No such file" in result.stderr
    assert run().exit_code == 2
    assert run("x", "--jsonl", "-").exit_code == 2
