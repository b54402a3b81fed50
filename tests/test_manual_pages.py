"""The manual pages in man/: one for each command, as its declaration is, and without a mistake in their roff."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from scripts.docs_commands import commands, options_of, variable_of
from scripts.manual_pages import FOLDER, escaped, manual_pages

needs_mandoc = pytest.mark.skipif(not shutil.which("mandoc"), reason="mandoc is not installed")
PAGES = {name: path.read_text() for path in sorted(FOLDER.glob("*.1")) if (name := path.name)}


def shown(text: str) -> str:
    """A page as `man` shows it, of one width, without bold and italics."""
    command = ["mandoc", "-man", "-T", "ascii", "-O", "width=500"]
    result = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=True)
    return re.sub(".\b", "", result.stdout)


def sections(text: str) -> dict[str, str]:
    """The sections of a shown page by their headings."""
    parts = re.split(r"^([A-Z][A-Z ]+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_they_are_current():
    assert manual_pages() == PAGES, "run scripts/update-docs"


def test_each_command_has_one():
    assert {"wsrec.1", "wsrec-record.1", "wsrec-feeds-list.1", "wsrec-completion-install.1"} <= PAGES.keys()


@needs_mandoc
def test_they_are_valid():
    lint = ["mandoc", "-T", "lint", "-W", "warning", *(str(FOLDER / name) for name in PAGES)]
    found = subprocess.run(lint, capture_output=True, text=True, timeout=60, check=False).stdout.splitlines()
    # on purpose: builds of one source are the same
    dateless = [line for line in found if 'WARNING: missing date, using ""' in line]
    assert len(dateless) == len(PAGES)
    assert found == dateless


@needs_mandoc
def test_nothing_of_a_command_is_lacking():
    for command, context in commands():
        page = sections(shown(PAGES[f"{context.command_path.replace(' ', '-')}.1"]))
        text = "\n".join(page.values())
        headings = {"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"}
        assert headings <= page.keys(), context.command_path
        for option in options_of(command, context):
            assert all(name in page["OPTIONS"] for name in option.opts)
            variable = variable_of(option, context)
            assert not variable or re.search(rf"\b{variable} +--", page["ENVIRONMENT"])
        words = re.sub(r"(Examples?|Exit status):|[`\b]|;(?= \d)", "", command.help or "").split()
        lost = {word.strip(".;,:") for word in words} - {word.strip(".;,:") for word in text.split()}
        assert not lost, context.command_path


@needs_mandoc
def test_statuses_have_an_entry_each():
    page = sections(shown(PAGES["wsrec-record.1"]))
    assert re.findall(r"^ +(\d+) +\w", page["EXIT STATUS"], re.MULTILINE) == ["0", "1", "2", "3", "4", "66", "74", "75"]


@needs_mandoc
@pytest.mark.parametrize(
    "text",
    [".SH not a heading", "'tis no macro", r"a \fBbackslash\fR and \n", '--option "quoted" `code` ^ ~', "-.5", "a\n.b"],
)
def test_any_text_is_shown_as_it_is(text: str):
    page = f'.TH X 1 "" x y\n.SH NAME\nx\n.SH TEXT\n.EX\n{escaped(text)}\n.EE\n'
    lines = [line.strip() for line in sections(shown(page))["TEXT"].strip("\n").splitlines()]
    assert lines[: text.count("\n") + 1] == text.split("\n")
