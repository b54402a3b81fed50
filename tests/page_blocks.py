"""The fenced blocks of the pages: README.md, its neighbours and docs/."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from wsrec.cli.main import main
from wsrec.cli.record import record
from wsrec.net.proxy import ProxyRules
from wsrec.plan.connections import plan
from wsrec.plan.target import Wanted

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("[A-Z]*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
# settings of a machine with a PTP NIC, and commands that tests of their own run
ELSEWHERE = (
    "ethtool",
    "hwstamp_ctl",
    "phc2sys",
    "/opt/wsrec",
    "cibuildwheel",
    "pip ",
    "pipx ",
    "podman ",
    "python3 -m venv",
    "scripts/wheel",
    "uv tool ",
    "scripts/demo",
    "scripts/disk-faults",
    "scripts/faults",
    "scripts/sanitize",
    "scripts/kill-matrix",
    "scripts/soak",
    "scripts/test",
    "scripts/fuzz",
    "scripts/fuzz-records",
    "scripts/update-docs",
    ".venv-test/bin/python -m pytest",
    "WSREC_PURE=1 .venv-test/bin/python -m pytest",
    # of the system's own tools
    ". ~/",
    "cp ",
    "ln ",
    "rm ",
    "journalctl",
    "systemctl",
    "useradd",
)
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of a page: `language` is empty for what is printed or drawn; `line` is that of its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str | None = None) -> list[Block]:
    """The blocks of all pages, or those in a language."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start(3)) + 1
            found.append(Block(page, line, block[2], block[3]))
    return [block for block in found if language in (None, block.language)]


def commands() -> list[tuple[str, str]]:
    """Every shell command in the pages, as (page, command); once where several pages have it."""
    found: dict[str, str] = {}
    for block in blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = re.sub(r"\s+#.*", "", line).strip()
            if command and not command.startswith("#"):
                found.setdefault(command, block.page.name)
    return [(page, command) for command, page in found.items()]


def would_record(words: list[str], folder: Path) -> None:
    """What needs the internet: its options are taken, its targets found and planned."""
    parent = click.Context(main, auto_envvar_prefix="WSREC")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as environment, parent:
        environment.setenv("PROXY_PASSWORD", "secret")
        values = record.make_context("record", list(words), parent=parent).params
        for target in values["targets"]:
            wanted = Wanted(target=target) if isinstance(target, str) else target
            narrowed = {key: values[key] or getattr(wanted, key) for key in ("symbols", "channels", "subscribe")}
            rules = ProxyRules(none=values["no_proxy"], given=values["proxy"])
            planned = plan([replace(wanted, **narrowed).resolved(values["shard"])], proxies=rules)
            assert planned
            assert all((one.proxy is None) is ("--proxy" not in words) for one in planned)
