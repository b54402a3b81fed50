"""The reference of the commands, as Markdown, made from their declarations: for the site (scripts/docs_site.py).

The walk over the commands is that of the manual pages, too (scripts/manual_pages.py).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from wsrec.cli.main import main


def command_reference() -> str:
    """A section for each command, with usage, help and a table of its options."""
    return "\n".join(line for command, context in commands() for line in _section(command, context))


def commands() -> Iterator[tuple[click.Command, click.Context]]:
    """Every command with its context, each group before what is in it; first `wsrec` itself."""
    yield from _within(main, click.Context(main, info_name="wsrec", **main.context_settings))


def _within(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _within(inner, click.Context(inner, parent=context, info_name=name))


def options_of(command: click.Command, context: click.Context) -> list[click.Option]:
    """The options of a command, besides `--help`."""
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    return [option for option in options if "--help" not in option.opts]


def paragraphs(command: click.Command) -> Iterator[tuple[str, bool]]:
    """The paragraphs of a help text, and whether each has lines that stay as they are; the others are one line each."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            yield paragraph[1:].strip("\n"), True
        else:
            yield " ".join(paragraph.split()), False


def names_and_meaning(option: click.Option, context: click.Context) -> tuple[str, str]:
    """As help has it: the names with the placeholder of the value, and what the option means, in one line."""
    names, meaning = option.get_help_record(context) or (", ".join(option.opts), option.help or "")
    return names, " ".join(meaning.split())


def variable_of(option: click.Option, context: click.Context) -> str:
    """The variable of an option, empty if it has none."""
    return f"{context.auto_envvar_prefix}_{(option.name or '').upper()}" if option.allow_from_autoenv else ""


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    if context.parent is not None:
        yield f"## `{context.command_path}`\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```\n"
    for text, literal in paragraphs(command):
        yield f"```text\n{text}\n```\n" if literal else f"{_escaped(text)}\n"
    options = options_of(command, context)
    if options:
        yield "| option | variable | meaning |\n| --- | --- | --- |"
        yield from (_row(option, context) for option in options)
        yield ""


def _row(option: click.Option, context: click.Context) -> str:
    names, meaning = names_and_meaning(option, context)
    variable = variable_of(option, context)
    return f"| {_escaped(f'`{names}`')} | {variable and f'`{variable}`'} | {_escaped(meaning)} |"


def _escaped(text: str) -> str:
    """What Markdown would take for markup, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([\\*_<>\[\]|#$])", r"\\\1", part) for part in parts[::2]]
    return "".join(part.replace("|", r"\|") if part.startswith("`") else part for part in parts)
