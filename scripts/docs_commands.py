"""The reference of the commands, as Markdown, made from their declarations: for the site (scripts/docs_site.py)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from wsrec.cli.main import main


def command_reference() -> str:
    """A section for each command, with usage, help and a table of its options."""
    context = click.Context(main, info_name="wsrec", auto_envvar_prefix="WSREC")
    return "\n".join(_sections(main, context))


def _sections(command: click.Command, context: click.Context) -> Iterator[str]:
    if context.parent is not None:
        yield f"## `{context.command_path}`\n"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{context.command_path} {usage}\n```\n"
    yield from _help(command)
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    options = [option for option in options if "--help" not in option.opts]
    if options:
        yield "| option | variable | meaning |\n| --- | --- | --- |"
        yield from (_row(option, context) for option in options)
        yield ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _sections(inner, click.Context(inner, parent=context, info_name=name))


def _help(command: click.Command) -> Iterator[str]:
    """The paragraphs of a help text; what click is told not to wrap stays as it is."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("\b"):
            yield f"```text\n{paragraph[1:].strip(chr(10))}\n```\n"
        else:
            yield _escaped(" ".join(paragraph.split())) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    names, meaning = record or (", ".join(option.opts), option.help or "")
    variable = f"`{context.auto_envvar_prefix}_{(option.name or '').upper()}`" if option.allow_from_autoenv else ""
    return f"| {_escaped(f'`{names}`')} | {variable} | {_escaped(' '.join(meaning.split()))} |"


def _escaped(text: str) -> str:
    """What Markdown would take for markup, outside of code."""
    parts = re.split(r"(`[^`]*`)", text)
    parts[::2] = [re.sub(r"([\\*_<>\[\]|#$])", r"\\\1", part) for part in parts[::2]]
    return "".join(part.replace("|", r"\|") if part.startswith("`") else part for part in parts)
