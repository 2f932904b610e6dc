"""The command line: ``clawmail COMMAND``. Each command's module is imported only when it is used."""

from __future__ import annotations

import importlib
import sys
from difflib import get_close_matches

import click

import clawmail

#: command → (module, attribute, one line of help). The help stands here so that ``--help`` imports nothing.
COMMANDS = {
    "serve": ("clawmail.cli.serve", "serve", "Run the server."),
    "dev": ("clawmail.cli.serve", "dev", "Run a server to try things out, with a domain, an inbox and a key."),
    "migrate": ("clawmail.cli.serve", "migrate", "Bring the database to this version's schema."),
    "domain": ("clawmail.cli.domain", "domain", "Add, list, verify and remove domains; show their DNS records."),
    "inbox": ("clawmail.cli.inbox", "inbox", "Add, list and remove inboxes; set their quota."),
    "key": ("clawmail.cli.key", "key", "Create, list and revoke inbox keys."),
    "sender": ("clawmail.cli.sender", "sender", "Allow and block senders, for a domain or for one inbox."),
    "webhook": ("clawmail.cli.webhook", "webhook", "Add, list, try out and remove webhooks."),
    "queue": ("clawmail.cli.queue", "queue", "Look at the outbound queue, and move what is in it."),
    "doctor": ("clawmail.cli.doctor", "doctor", "Check DNS, reverse name, port 25, certificate, disk and database."),
    "check": ("clawmail.cli.check", "check_group", "Judge a sender or a message: SPF, DKIM, DMARC, ARC."),
    "parse": ("clawmail.cli.parse", "parse_command", "Show what the store would keep of a message."),
    "config": ("clawmail.cli.config", "config", "Check the configuration, or print an example of it."),
    "verify": ("clawmail.cli.verify", "verify", "Recount every kept count and check every message against its hash."),
    "export": ("clawmail.cli.archive", "export_command", "Write an inbox to an mbox, a Maildir or JSON lines."),
    "import": ("clawmail.cli.archive", "import_command", "File the mail of such an archive into an inbox."),
    "backup": ("clawmail.cli.backup", "backup", "Write everything the server holds to a directory, while it runs."),
    "restore": ("clawmail.cli.backup", "restore", "Fill an empty database with a backup."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, not when its name is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table above: what is needed first comes first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """What was meant by the first word; a mistyped one is answered with the nearest command."""
        near = get_close_matches(args[0], COMMANDS, n=1)
        if near and args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}' (did you mean {near[0]}?).")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(clawmail.__version__, prog_name="clawmail")
def main() -> None:
    """A mail server for programs and AI agents: SMTP in, PostgreSQL, HTTP out."""


if __name__ == "__main__":
    sys.exit(main())
