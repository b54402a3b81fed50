"""The manual pages in man/, one for each command, made from the commands' declarations by scripts/update-docs.

They are in git because the commands cannot be imported where a wheel is built; tests/test_manual_pages.py holds
them to the commands. A page has no date: it would be another one in each build.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from scripts.docs_commands import commands, names_and_meaning, options_of, paragraphs, variable_of

FOLDER = Path(__file__).parents[1] / "man"

# of a command whose help says nothing of it
_STATUSES = (
    "0 done; 1 failed, and standard error says why; 2 wrong usage, or what an argument names cannot be used; "
    "74 standard output cannot be written."
)
_LABEL = re.compile(r"(Examples?|Exit status): *\n?")
# what roff or a terminal would make something else of: backslashes, quotes, and hyphens in what is to be copied
_SPECIAL = str.maketrans(
    {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti", '"': r"\(dq"}
)


def manual_pages() -> dict[str, str]:
    """The pages by the names of their files."""
    return {f"{_name(context)}.1": _page(command, context) for command, context in commands()}


def write() -> None:
    """Write the pages into man/, and remove those of commands that are no more."""
    FOLDER.mkdir(exist_ok=True)
    pages = manual_pages()
    for old in FOLDER.glob("*.1"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text)


def escaped(text: str) -> str:
    """A text of one or several lines, for roff to print as it is."""
    text = text.translate(_SPECIAL)
    text = re.sub(r"[^\x00-\x7f]", lambda found: rf"\[u{ord(found[0]):04X}]", text)
    return re.sub(r"^\.", r"\&.", text, flags=re.MULTILINE)


def _name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _page(command: click.Command, context: click.Context) -> str:
    return "\n".join(_lines(command, context)) + "\n"


def _lines(command: click.Command, context: click.Context) -> Iterator[str]:
    name = _name(context)
    yield r".\" made by scripts/update-docs; change the command instead"
    yield f'.TH {escaped(name.upper())} 1 "" wsrec "Manual of wsrec"'
    # a command or option that is hyphenated at the end of a line is another one
    yield ".nr HY 0\n.nh\n.ad l"
    summary = command.get_short_help_str(limit=1000).rstrip(".").replace("`", "")
    yield f".SH NAME\n{escaped(f'{name} - {summary[:1].lower()}{summary[1:]}')}"
    usage = re.sub(r"[A-Z]+", r"\\fI\g<0>\\fR", escaped(" ".join(command.collect_usage_pieces(context))))
    yield f".SH SYNOPSIS\n\\fB{escaped(context.command_path)}\\fR {usage}"

    examples, statuses = [], _STATUSES
    yield ".SH DESCRIPTION"
    for number, (text, literal) in enumerate(paragraphs(command)):
        label = _LABEL.match(text)
        if label and label[1] == "Exit status":
            statuses = " ".join(text[label.end() :].split())
        elif label:
            # what is on the label's own line has its place below it
            examples.append(textwrap.dedent(" " * label.end() * ("\n" not in label[0]) + text[label.end() :]))
        elif literal and all(re.search(r"\bwsrec ", line) for line in text.split("\n")):
            examples.append(text)
        else:
            yield from ([".PP"] if number else [])
            yield _literal(text) if literal else _prose(text)

    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for inner, within in commands():
            if within.parent and within.parent.command_path == context.command_path:
                yield f".TP\n.BR {escaped(_name(within))} (1)\n{_prose(inner.get_short_help_str(limit=1000))}"
    yield ".SH OPTIONS"
    for option in [param for param in command.get_params(context) if isinstance(param, click.Option)]:
        names, meaning = names_and_meaning(option, context)
        yield f".TP\n{_names(names)}\n{_prose(meaning)}"
    if examples:
        yield ".SH EXAMPLES"
        yield "\n.PP\n".join(_literal(text) for text in examples)
    yield from _environment(command, context)
    yield ".SH EXIT STATUS"
    if context.parent is None:
        yield "Commands have further ones, which are on their pages."
    for number, meaning in _statuses(statuses):
        yield f".TP\n.B {number}\n{_prose(meaning)}"
    yield f".SH SEE ALSO\n{_see_also(context)}"


def _environment(command: click.Command, context: click.Context) -> Iterator[str]:
    variables = [
        (variable, max(option.opts, key=len))
        for option in options_of(command, context)
        if (variable := variable_of(option, context))
    ]
    if context.parent is None:
        yield ".SH ENVIRONMENT"
        yield _prose(
            "Every option of a command can also be given by a variable, which its page names: "
            "`WSREC_RECORD_ROTATE=15m` is `--rotate 15m` of `wsrec record`. "
            "The command line takes precedence over the variable."
        )
    elif variables:
        yield ".SH ENVIRONMENT"
        yield _prose(
            "Each of these variables has the value of an option, or 1 or 0 for an option without a value. "
            "The command line takes precedence over it."
        )
        width = max(len(variable) for variable, _ in variables)
        yield ".PP\n" + _literal("\n".join(f"{variable:{width}}  {option}" for variable, option in variables))


def _see_also(context: click.Context) -> str:
    """The pages around a command's: of its group, of its siblings in a group of `wsrec`, and of those within it."""
    own = context.command_path
    group = context.parent.command_path if context.parent else None
    names = [
        _name(other)
        for _, other in commands()
        if other.command_path == group
        or (other.parent and other.parent.command_path in {own, group} - {"wsrec" if group else None})
    ]
    names = [name for name in names if name != _name(context)]
    return "\n".join(f".BR {escaped(name)} (1){',' if name != names[-1] else ''}" for name in names)


def _statuses(text: str) -> list[tuple[str, str]]:
    """Numbers and meanings of `0 done; 1 failed, because; of this. Others follow.`."""
    items: list[tuple[str, str]] = []
    for part in re.split(r"; (?=\d+ )", text):
        number, meaning = re.fullmatch(r"(\d+),? (.*)", part).groups()  # type: ignore[union-attr]
        items.append((number, meaning.rstrip(".")))
    return items


def _names(names: str) -> str:
    """The names of an option in bold, the placeholders of values in italics."""
    parts = []
    for part in names.split(", "):
        name, _, placeholder = part.partition(" ")
        parts.append(rf"\fB{escaped(name)}\fR" + (rf" \fI{escaped(placeholder)}\fR" if placeholder else ""))
    return ", ".join(parts)


def _prose(text: str) -> str:
    """A paragraph in lines of moderate length, with what is in backquotes in bold."""
    parts = [escaped(part).removeprefix("\\&") for part in re.split(r"`([^`]*)`", text)]
    parts[1::2] = [rf"\fB{part}\fR" for part in parts[1::2]]
    lines = textwrap.wrap("".join(parts), 76, break_long_words=False, break_on_hyphens=False)
    return "\n".join(rf"\&{line}" if line.startswith(".") else line for line in lines)


def _literal(text: str) -> str:
    """Lines that stay as they are."""
    return f".RS 4\n.EX\n{escaped(text)}\n.EE\n.RE"
