"""A command with `--json` that prints wrong usage, such as a path that does not exist, as JSON too."""

from __future__ import annotations

from typing import Any

import click

from wsrec.supervise.outcome import ExitStatus
from wsrec.units import clean, printable_json


class JsonCommand(click.Command):
    """Prints wrong usage as an object of `status` and `error` on standard output, where `--json` is given."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments."""
        given = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if "--json" in given:
                text = clean(error.format_message(), 2000)
                click.echo(printable_json({"status": int(ExitStatus.USAGE), "error": text}))
            raise
