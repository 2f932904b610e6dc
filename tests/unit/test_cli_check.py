"""``clawmail check …`` against a real DNS server on loopback: the answers, their order, and nothing else on stdout."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clawmail.cli.check import check_group
from clawmail.protocol.dkim.sign import generate_rsa_key, load_signing_key, sign
from tests.support.dns_server import SERVFAIL, DnsServerThread, Fault

PRIVATE, PUBLIC = generate_rsa_key()
KEY = load_signing_key("example.com", "s1", PRIVATE)
ZONE: dict[str, dict[str, Any]] = {
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 include:_spf.example.net exp=why.example.com -all"]},
    "_spf.example.net": {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]},
    "why.example.com": {"TXT": ["%{i} may not send for %{d}"]},
    "broken.example.com": {"TXT": ["v=spf1 ip4:nonsense -all"]},
    "s1._domainkey.example.com": {"TXT": [PUBLIC]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@example.com"]},
    "mail.example.com": {"A": ["192.0.2.7"]},
    "7.2.0.192.in-addr.arpa": {"PTR": ["mail.example.com"]},
}
PROGRAM = [sys.executable, "-c", "from clawmail.cli.check import check_group as g; g()"]
MESSAGE = b"From: Ann <ann@example.com>\r\nTo: bob@example.org\r\nSubject: Hi\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServerThread]:
    server = DnsServerThread(ZONE)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def message(tmp_path: Path) -> Path:
    path = tmp_path / "message.eml"
    path.write_bytes(sign(MESSAGE, [KEY], now=1_700_000_000) + MESSAGE)
    return path


def run(dns: DnsServerThread, *arguments: str | Path, stdin: str | bytes | None = None) -> Result:
    command, *rest = map(str, arguments)
    return CliRunner().invoke(check_group, [command, "--nameserver", dns.nameserver, *rest], input=stdin)


def answer(dns: DnsServerThread, *arguments: str | Path) -> dict[str, Any]:
    result = run(dns, *arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def answers(dns: DnsServerThread, command: str, lines: list[str]) -> list[dict[str, Any]]:
    result = run(dns, command, "--jsonl", "-", stdin="".join(line + "\n" for line in lines))
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_spf_answers_with_result_explanation_and_problem(dns: DnsServerThread) -> None:
    passed = answer(dns, "spf", "--ip", "198.51.100.7", "--mail-from", "ann@example.com", "--helo", "h.example.com")
    assert (passed["result"], passed["mechanism"]) == ("pass", "include:_spf.example.net")
    failed = answer(dns, "spf", "--ip", "203.0.113.5", "--mail-from", "ann@example.com", "--helo", "h.example.com")
    assert (failed["result"], failed["explanation"]) == ("fail", "203.0.113.5 may not send for example.com")
    broken = answer(dns, "spf", "--ip", "203.0.113.5", "--mail-from", "x@broken.example.com", "--helo", "h")
    assert broken["result"] == "permerror"
    assert "nonsense" in broken["problem"]


def test_spf_takes_helo_for_the_null_sender(dns: DnsServerThread) -> None:
    for sender in ("", "<>"):
        found = answer(dns, "spf", "--ip", "192.0.2.1", "--mail-from", sender, "--helo", "example.com")
        assert (found["result"], found["identity"], found["domain"]) == ("pass", "helo", "example.com")


def test_spf_lines_are_answered_in_order_and_each_once(dns: DnsServerThread) -> None:
    dns.set("slow.example.com", "TXT", ["v=spf1 +all"])
    dns.fault("slow.example.com", Fault(delay=0.3))
    lines = [
        json.dumps({"ip": "192.0.2.1", "mail_from": "a@slow.example.com", "helo": "h"}),
        json.dumps({"ip": "192.0.2.1", "mail_from": "a@example.com", "helo": "h"}),
        "not json",
        "",
        "[]",
        json.dumps({"mail_from": "a@example.com"}),
        json.dumps({"ip": 7}),
        json.dumps({"ip": "not an address", "mail_from": "a@example.com", "helo": "h"}),
        json.dumps({"ip": "203.0.113.5", "mail_from": "a@example.com", "helo": None}),
        json.dumps({"ip": "192.0.2.1", "mail_from": "\ud800@example.com", "helo": "\u0000"}),
        json.dumps({"ip": "192.0.2.1", "mail_from": "a@example.com", "nameserver": "not a name server"}),
        "[" * 100_000,
    ]
    found = answers(dns, "spf", lines)
    assert [line.get("result", "error" if line.get("error") else None) for line in found] == [
        "pass",
        "pass",
        "error",
        "error",
        "error",
        "error",
        "error",
        "none",
        "fail",
        "pass",
        "error",
        "error",
    ]
    assert all(set(line) == {"error"} for line in found if "error" in line)


def test_a_line_may_name_its_own_name_server(dns: DnsServerThread) -> None:
    other = DnsServerThread({"example.com": {"TXT": ["v=spf1 -all"]}})
    other.start()
    try:
        line = {"ip": "192.0.2.1", "mail_from": "a@example.com", "helo": "h"}
        lines = [json.dumps(line), json.dumps(line | {"nameserver": other.nameserver}), json.dumps(line)]
        assert [found["result"] for found in answers(dns, "spf", lines)] == ["pass", "fail", "pass"]
    finally:
        other.stop()


def test_an_answer_is_written_before_the_next_question_is_read(dns: DnsServerThread) -> None:
    with subprocess.Popen(
        [*PROGRAM, "spf", "--nameserver", dns.nameserver, "--jsonl", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin and process.stdout
        for ip, result in (("192.0.2.1", "pass"), ("203.0.113.5", "fail")):
            process.stdin.write(json.dumps({"ip": ip, "mail_from": "a@example.com", "helo": "h"}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["result"] == result
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_reader_that_goes_away_ends_the_command_quietly(dns: DnsServerThread) -> None:
    line = json.dumps({"ip": "192.0.2.1", "mail_from": "a@example.com", "helo": "h"}).encode() + b"\n"
    with subprocess.Popen(
        [*PROGRAM, "spf", "--nameserver", dns.nameserver, "--jsonl", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(line * 50)
            process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(10) == 1


def test_message_answers_about_everything(dns: DnsServerThread, message: Path) -> None:
    found = answer(
        dns, "message", message, "--ip", "192.0.2.7", "--mail-from", "ann@example.com", "--helo", "mail.example.com",
        "--hostname", "mx.example.org",
    )  # fmt: skip
    assert found["spf"]["result"] == "pass"
    (signature,) = found["dkim"]
    assert signature | {"reason": ""} == {
        "result": "pass",
        "signing_domain": "example.com",
        "selector": "s1",
        "algorithm": "rsa-sha256",
        "aligned": True,
        "reason": "",
        "key_bits": 2048,
        "testing": False,
    }
    assert (found["dmarc"]["result"], found["dmarc"]["policy"], found["dmarc"]["domain"]) == (
        "pass",
        "reject",
        "example.com",
    )
    assert found["arc"]["result"] == "none"
    assert found["iprev"] == {"result": "pass", "name": "mail.example.com", "problem": ""}
    value = found["authentication_results"]
    assert value.startswith("mx.example.org; iprev=pass (mail.example.com) policy.iprev=192.0.2.7; spf=pass ")
    assert "dkim=pass header.d=example.com header.s=s1 header.a=rsa-sha256 " in value


@pytest.mark.parametrize("command", ["message", "dkim", "arc"])
def test_a_message_without_an_envelope_still_gets_an_answer(dns: DnsServerThread, message: Path, command: str) -> None:
    found = answer(dns, command, message)
    assert found["dkim"][0]["result"] == "pass"
    assert found["dmarc"]["result"] == "pass"
    assert found["arc"]["result"] == "none"
    assert (found["spf"]["result"], found["iprev"]["result"]) == ("none", None)
    assert "spf=" not in found["authentication_results"]


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"From: ann@example.com", b"no header\n", b"\xff\xfe\x00"])
def test_any_file_gets_an_answer(dns: DnsServerThread, tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "odd.eml"
    path.write_bytes(raw)
    found = answer(dns, "message", path, "--ip", "192.0.2.7", "--mail-from", "ann@example.com", "--helo", "h")
    assert found["dkim"] == []
    assert "dkim=none" in found["authentication_results"]


def test_a_file_with_bare_lf_is_read_as_crlf(dns: DnsServerThread, message: Path) -> None:
    message.write_bytes(message.read_bytes().replace(b"\r\n", b"\n"))
    assert answer(dns, "dkim", message)["dkim"][0]["result"] == "pass"


def test_message_lines(dns: DnsServerThread, message: Path, tmp_path: Path) -> None:
    envelope = {"ip": "192.0.2.7", "mail_from": "ann@example.com", "helo": "mail.example.com"}
    lines = [
        json.dumps({"file": str(message)} | envelope),
        json.dumps({"file": str(tmp_path / "missing.eml")} | envelope),
        json.dumps({"file": str(tmp_path)}),
        json.dumps({"file": "a\u0000b"}),
        json.dumps(envelope),
        json.dumps({"file": str(message)}),
    ]
    found = answers(dns, "message", lines)
    assert [line["dmarc"]["result"] if "dmarc" in line else "error" for line in found] == [
        "pass",
        "error",
        "error",
        "error",
        "error",
        "pass",
    ]
    assert "No such file" in found[1]["error"]


def test_dmarc_what_if(dns: DnsServerThread) -> None:
    assert answer(dns, "dmarc", "--from", "ann@news.example.com", "--dkim-pass", "other.net", "--dkim-pass",
                  "mail.example.com", "--spf-pass", "bounce.example.net") == {
        "result": "pass",
        "policy": "quarantine",
        "domain": "example.com",
        "record": "v=DMARC1; p=reject; sp=quarantine; rua=mailto:d@example.com",
        "record_domain": "example.com",
        "test_mode": False,
        "header_from": "news.example.com",
        "alignment": {
            "spf": {"result": None, "strict": False},
            "dkim": {"result": "mail.example.com", "strict": False},
        },
        "rua": ["mailto:d@example.com"],
        "problem": "",
    }  # fmt: skip


def test_dmarc_takes_a_domain_a_display_name_and_unicode(dns: DnsServerThread) -> None:
    dns.set("_dmarc.xn--bcher-kva.example", "TXT", ["v=DMARC1; p=reject"])
    for author in ("bücher.example", "a@bücher.example", "Ann <a@BÜCHER.example>"):
        found = answer(dns, "dmarc", "--from", author, "--spf-pass", "bücher.example")
        assert (found["result"], found["domain"]) == ("pass", "xn--bcher-kva.example")


def test_dmarc_errors_and_none(dns: DnsServerThread) -> None:
    dns.set("_dmarc.failing.example", "TXT", SERVFAIL)
    temporary = answer(dns, "dmarc", "--from", "a@failing.example")
    assert (temporary["result"], temporary["policy"], temporary["domain"]) == ("temperror", None, "failing.example")
    nothing = answer(dns, "dmarc", "--from", "a@sub.nothing.example")
    assert (nothing["result"], nothing["policy"], nothing["domain"]) == ("none", None, "sub.nothing.example")
    several = answer(dns, "dmarc", "--from", "a@example.com, b@example.net")
    assert (several["result"], several["policy"]) == ("permerror", None)


def test_dmarc_asks_at_most_eight_names_one_after_another(dns: DnsServerThread) -> None:
    before = len(dns.asked)
    answer(dns, "dmarc", "--from", "x@a.b.c.d.e.f.g.h.i.j.deep.example")
    names = [name for kind, name in dns.asked[before:] if kind == "TXT"]
    assert names[:2] == ["_dmarc.a.b.c.d.e.f.g.h.i.j.deep.example", "_dmarc.f.g.h.i.j.deep.example"]
    assert len(names) == 8
    assert names[-1] == "_dmarc.example"


def test_dmarc_lines(dns: DnsServerThread) -> None:
    lines = [
        json.dumps({"from": "a@example.com", "dkim_pass": ["example.com"]}),
        json.dumps({"from": "a@example.com", "spf_pass": "other.example"}),
        json.dumps({"from": "a@example.com", "dkim_pass": [1]}),
    ]
    assert [line.get("result", "error") for line in answers(dns, "dmarc", lines)] == ["pass", "fail", "error"]


def test_for_people_every_answer_explains(dns: DnsServerThread, message: Path) -> None:
    spf = run(dns, "spf", "--ip", "203.0.113.5", "--mail-from", "ann@example.com", "--helo", "h").stdout
    for words in (
        "SPF: fail",
        "matched: -all",
        "read at example.com: v=spf1 ip4:192.0.2.0/24",
        "read at _spf.example.net: v=spf1",
        "203.0.113.5 may not send for example.com",
        "to do: ",
    ):
        assert words in spf
    dmarc = run(dns, "dmarc", "--from", "a@news.example.com").stdout
    for words in (
        "DMARC: fail",
        "asked _dmarc.news.example.com: ",
        "asked _dmarc.example.com: v=DMARC1; p=reject",
        "policy: quarantine, from _dmarc.example.com",
        "to do: Sign with d=news.example.com",
    ):
        assert words in dmarc
    everything = run(dns, "message", message, "--ip", "192.0.2.7", "--mail-from", "a@example.com", "--helo", "h").stdout
    for words in (
        "Reverse name: pass",
        "SPF: pass",
        "DKIM: pass",
        "DMARC: pass",
        "ARC: none",
        "Authentication-Results:",
    ):
        assert words in everything
    assert "\x1b" not in everything
    assert run(dns, "dkim", message).stdout.startswith("DKIM: pass")
    assert run(dns, "arc", message).stdout.startswith("ARC: none")


def test_a_strangers_text_cannot_steer_the_terminal(dns: DnsServerThread) -> None:
    dns.set("evil.example", "TXT", [b"v=spf1 \x1b[2J[red]x -all"])
    dns.set("_dmarc.evil.example", "TXT", [b"v=DMARC1; p=none; x=\x1b]0;owned\x07[bold]"])
    for arguments in (
        ("spf", "--ip", "192.0.2.1", "--mail-from", "a@evil.example", "--helo", "h"),
        ("dmarc", "--from", "a@evil.example"),
    ):
        text = run(dns, *arguments).stdout
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "[red]" in text or "[bold]" in text


def test_what_cannot_be_asked_is_an_error(dns: DnsServerThread, tmp_path: Path) -> None:
    missing = run(dns, "message", tmp_path / "missing.eml", "--json")
    assert missing.exit_code == 1
    assert list(json.loads(missing.stdout)) == ["error"]
    assert run(dns, "spf", "--mail-from", "a@example.com").exit_code == 2
    assert run(dns, "dmarc").exit_code == 2
    assert run(dns, "message").exit_code == 2


def test_the_command_line_starts_without_what_it_does_not_need() -> None:
    code = (
        "import sys, clawmail.cli.check as c; "
        "print([m for m in ('dns', 'cryptography', 'rich', 'authres', 'idna') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"
