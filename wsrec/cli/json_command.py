"""A click command that, with `--json`, prints usage errors (such as a path that does not exist) as JSON too."""

from __future__ import annotations

from typing import Any

import click

from wsrec.supervise.outcome import ExitStatus
from wsrec.units import clean, printable_json


class JsonCommand(click.Command):
    """With `--json`, prints a usage error as an object with `status` and `error` on standard output."""

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
