"""``clawmail check …``: ask what a receiver would make of a sender, a message or a DNS record.

For people it explains; ``--json`` prints one object, ``--jsonl -`` one object for each line of the standard input (see
``cli.lines``). The exit status is 0 whenever an answer was printed, whatever it says: "fail" is an answer.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from clawmail.cli.examiner import Examiner
    from clawmail.cli.explain import Line

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])


def _common(command: Command) -> Command:
    """The options that every question has."""
    for option in (
        click.option(
            "--jsonl", type=click.File("rb"), metavar="FILE", help="Read questions from FILE, or - for stdin."
        ),
        click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON object."),
        click.option("--hostname", default="", help="Our own name, for Authentication-Results and the macro %{r}."),
        click.option(
            "--nameserver", "nameservers", multiple=True, metavar="HOST:PORT", help="Ask this name server instead."
        ),
    ):
        command = option(command)
    return command


def _ip(_ctx: click.Context, _parameter: click.Parameter, text: str) -> str:
    """An address that can be one: a typing error is no answer of SPF's."""
    if text:
        try:
            ip_address(text)
        except ValueError:
            raise click.BadParameter(f"{text!r} is not an IP address") from None
    return text


def _envelope(command: Command) -> Command:
    """What is known of the SMTP session."""
    for option in (
        click.option("--helo", default="", help="What the client called itself in EHLO."),
        click.option("--mail-from", default="", help='The envelope sender; "" or <> is the null sender.'),
        click.option("--ip", default="", callback=_ip, help="The client's address."),
    ):
        command = option(command)
    return command


@click.group("check")
def check_group() -> None:
    """Ask what a receiver would make of a sender, a message or a DNS record."""


@check_group.command("spf")
@_envelope
@_common
def check_spf_command(ip: str, mail_from: str, helo: str, **common: Any) -> None:
    """May the client at --ip send mail for --mail-from (or, for a bounce, --helo)?"""
    from clawmail.cli import examiner, explain

    if not ip and not common["jsonl"]:
        raise click.UsageError("--ip is missing")
    question = {"ip": ip, "mail_from": mail_from, "helo": helo}
    _run(question, lambda examine: examine.spf, examiner.spf_json, explain.explain_spf, **common)


@check_group.command("dmarc")
@click.option("--from", "author", default="", metavar="ADDRESS", help="The address in From, or its domain.")
@click.option("--dkim-pass", multiple=True, metavar="DOMAIN", help="A domain whose DKIM signature passed.")
@click.option("--spf-pass", default="", metavar="DOMAIN", help="The domain that passed SPF.")
@_common
def check_dmarc_command(author: str, dkim_pass: tuple[str, ...], spf_pass: str, **common: Any) -> None:
    """What if a message from this author had passed SPF or DKIM for these domains?"""
    from clawmail.cli import examiner, explain

    if not author and not common["jsonl"]:
        raise click.UsageError("--from is missing")
    question = {"from": author, "dkim_pass": list(dkim_pass), "spf_pass": spf_pass}
    _run(question, lambda examine: examine.dmarc, examiner.dmarc_json, explain.explain_dmarc, **common)


def _message_command(name: str, summary: str, part: str) -> None:
    """Add a command that judges a whole message; for people it explains ``part`` of the verdict, "" for all of it."""

    @check_group.command(name, help=summary)
    @click.argument("file", required=False, default="")
    @_envelope
    @_common
    def command(file: str, ip: str, mail_from: str, helo: str, **common: Any) -> None:
        from clawmail.cli import examiner, explain

        if not file and not common["jsonl"]:
            raise click.UsageError("FILE is missing")
        hostname = common["hostname"] = common["hostname"] or _own_name()
        explainers: dict[str, Callable[[Any], Iterable[Line]]] = {
            "dkim": explain.explain_dkim,
            "arc": lambda verdict: explain.explain_arc(verdict.arc),
            "": lambda verdict: explain.explain_verdict(verdict, hostname),
        }
        question = {"file": "/dev/stdin" if file == "-" else file, "ip": ip, "mail_from": mail_from, "helo": helo}
        _run(
            question,
            lambda examine: examine.message,
            lambda verdict: examiner.verdict_json(verdict, hostname),
            explainers[part],
            **common,
        )


_message_command("message", "Who really sent the message in FILE?", "")
_message_command("dkim", "Are the DKIM signatures of the message in FILE good?", "dkim")
_message_command("arc", "Is the ARC chain of the message in FILE good?", "arc")


def _own_name() -> str:
    """This host's name, where it can stand in an Authentication-Results field."""
    name = platform.node().lower()
    return name if name and all(c.isascii() and (c.isalnum() or c in "-.") for c in name) else "localhost"


def _run(
    question: dict[str, Any],
    ask: Callable[[Examiner], Callable[[dict[str, Any]], Awaitable[T]]],
    to_answer: Callable[[T], dict[str, Any]],
    explain: Callable[[T], Iterable[Line]],
    *,
    nameservers: tuple[str, ...],
    hostname: str,
    as_json: bool,
    jsonl: IO[bytes] | None,
) -> None:
    """Answer ``question``, or every line of ``jsonl``, in the form that was asked for."""
    from clawmail.cli.examiner import Examiner
    from clawmail.cli.explain import print_lines
    from clawmail.cli.lines import Unanswerable, answer_lines, to_json

    async def answer_all() -> None:
        async with Examiner(nameservers, hostname or _own_name()) as examiner:
            examine = ask(examiner)
            if jsonl is not None:

                async def answer(line: dict[str, Any]) -> dict[str, Any]:
                    return to_answer(await examine(line))

                await answer_lines(jsonl, sys.stdout, answer)
                return
            result = await examine(question)
            if as_json:
                click.echo(to_json(to_answer(result)))
            else:
                print_lines(explain(result))

    try:
        asyncio.run(answer_all())
    except Unanswerable as problem:
        if as_json:
            click.echo(to_json({"error": str(problem)}))
        raise click.ClickException(str(problem)) from problem
