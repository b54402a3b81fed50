"""The documentation as a site: it builds without a warning, and its check finds what it has to find."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from scripts.docs_commands import command_reference
from scripts.docs_pictures import report, svg
from scripts.docs_site import faults
from wsrec.cli.main import main

ROOT = Path(__file__).parents[1]
FURO = pytest.importorskip("furo", reason="furo is not installed")


@pytest.mark.long
def test_it_builds(tmp_path: Path):
    command = [sys.executable, "-m", "scripts.docs_site", "--out", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in (
        "index",
        "contributing",
        "tutorial/first-capture",
        "reference/format",
        "decisions/0001-three-processes",
    ):
        assert (tmp_path / "site" / f"{page}.html").exists()


def test_the_reference_has_every_command_and_option():
    reference = command_reference()

    def check(command: click.Command, path: str) -> None:
        assert f"{path} " in reference
        for option in command.params:
            assert all(name in reference for name in option.opts if name.startswith("--"))
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                check(inner, f"{path} {name}")

    check(main, "wsrec")


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="there.html#known">', None),
        ('<a href="https://example.com/">', None),
        ('<img src="data:image/png;base64,">', None),
        ('<a href="nowhere.html">', "page.html: nowhere.html leads nowhere"),
        ('<a href="there.html#unknown">', "page.html: there.html#unknown: no such anchor"),
        ('<a href="#unknown">', "page.html: #unknown: no such anchor"),
        ('<img src="missing.svg">', "page.html: missing.svg leads nowhere"),
        ('<img src="https://example.com/a.svg">', "page.html: requests https://example.com/a.svg"),
        ('<script src="//example.com/a.js">', "page.html: requests //example.com/a.js"),
        ('<link rel="stylesheet" href="https://example.com/a.css">', "page.html: requests https://example.com/a.css"),
    ],
)
def test_faults_are_found(html: str, fault: str | None, tmp_path: Path):
    (tmp_path / "page.html").write_text(html)
    (tmp_path / "there.html").write_text('<p id="known">')
    assert list(faults(tmp_path)) == [fault] * (fault is not None)


@pytest.mark.parametrize("rule", ['@import "https://example.com/a.css";', "a {src: url(https://example.com/a.css)}"])
def test_styles_request_nothing(rule: str, tmp_path: Path):
    (tmp_path / "own.css").write_text(rule)
    assert list(faults(tmp_path)) == ["own.css: requests https://example.com/a.css"]


def test_a_terminal_s_picture_requests_nothing():
    drawn = svg("\x1b[1mdemo\x1b[0m on <host>", "wsrec report", 40)
    assert "demo" in drawn
    assert "&lt;host&gt;" in drawn
    assert not re.search(r"@font-face|(?:href|src)=|url\((?!#)", drawn)


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.name)
def test_the_pictures_of_the_pages_request_nothing(picture: Path):
    assert not re.search(r"@font-face|(?:href|src)=|url\((?!#)", picture.read_text())


@pytest.mark.long
def test_the_report_is_drawn(tmp_path: Path):
    (tmp_path / "out").mkdir()
    report(tmp_path, tmp_path / "out")
    drawn = (tmp_path / "out" / "report.svg").read_text()
    assert all(step in drawn for step in ("NIC-&gt;EVENT", "PARSED-&gt;HANDOFF"))
