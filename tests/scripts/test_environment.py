"""scripts/environment: what it installs once, what it says, and what it mends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pip
import pytest

# unpacking pip takes longer than all else: here it is lent
PYTHON = f"""#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"
{sys.executable} -m venv --without-pip "$3" && ln -s {Path(pip.__file__).parent} "$3"/lib/python3*/site-packages
"""
SCRIPTS = Path(__file__).parent.parent.parent / "scripts"


class Tree:
    """A small source tree whose script `scripts/work` makes the environment `.venv-work`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "scripts").mkdir()
        (folder / "wsrec").mkdir()
        (folder / "configs").mkdir()
        (folder / "scripts" / "environment").write_text((SCRIPTS / "environment").read_text())
        for name in ("pyproject.toml", "README.md", "wsrec/one.py", "wsrec/_fast.pyx", "needed.txt"):
            (folder / name).write_text("# nothing\n")

        self.python = folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def run(self, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = self.folder / "scripts" / "work"
        script.write_text(f"#!/bin/sh\nset -eu\n. scripts/environment\n{what}\n")
        script.chmod(0o755)
        return subprocess.run(
            ["scripts/work"],
            cwd=self.folder,
            env={**os.environ, "PYTHON": str(self.python), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def fingerprint(self, arguments: str) -> str:
        return self.run(f"fingerprint {arguments}").stdout


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_line_a_phase_and_silence_when_nothing_changed(tree: Tree):
    make = "environment work -r needed.txt"
    first = tree.run(make)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    phases = [line for line in first.stderr.splitlines() if line.startswith("work: ")]
    assert re.fullmatch(r"work: making the environment \.venv-work \(Python 3\.\d+\.\S+\)", phases[0])
    assert phases[1] == "work: installing into .venv-work, with what it needs from PyPI ..."
    assert re.fullmatch(r"work: installed in \d+ s", phases[2])
    assert len(phases) == 3
    again = tree.run(make)
    assert (again.returncode, again.stderr) == (0, "")
    (tree.folder / "needed.txt").write_text("# changed\n")
    assert "installing" in tree.run(make).stderr
    # as Ctrl-C leaves it, before pip was there
    (site,) = tree.folder.glob(".venv-work/lib/python3*/site-packages")
    (site / "pip").unlink()
    assert "making the environment" in tree.run(make).stderr
    assert tree.run(make).stderr == ""


def test_what_cannot_be_installed_is_tried_again(tree: Tree):
    (tree.folder / "needed.txt").write_text("./nowhere\n")
    for _ in range(2):
        result = tree.run("environment work -r needed.txt; echo never")
        assert result.returncode != 0
        assert result.stdout == ""
        assert "work: could not install" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "file", "changes"),
    [
        (".", "wsrec/one.py", True),
        ("'.[bench]'", "wsrec/one.py", True),
        ("--editable '.[test]'", "wsrec/one.py", False),
        ("--editable '.[test]'", "wsrec/_fast.pyx", True),
        (".", "wsrec/_fast.c", False),
        (".", "wsrec/_version.py", False),
        (".", "configs/new.yaml", True),
        ("-r needed.txt", "wsrec/one.py", False),
        ("-r needed.txt", "needed.txt", True),
    ],
)
def test_what_an_installation_depends_on(tree: Tree, arguments: str, file: str, changes: bool):
    before = tree.fingerprint(arguments)
    (tree.folder / file).write_text("something else\n")
    assert (tree.fingerprint(arguments) != before) == changes


def test_what_is_missing_for_compiling_is_named(tree: Tree):
    missing = tree.run('lacks_for_compiling "$PYTHON"', CC="no-such-compiler -O2")
    assert (missing.stdout, missing.stderr) == ("a C compiler\n", "")


def test_a_python_that_is_too_old(tree: Tree):
    old = tree.folder / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
    old.chmod(0o755)
    result = tree.run("environment work .", PYTHON=str(old))
    assert result.returncode == 2
    assert "needs Python 3.11 or later" in result.stderr
    assert "Python 3.9.1" in result.stderr


def test_a_python_without_venv_names_the_package(tree: Tree):
    without = tree.folder / "python3"
    without.write_text('#!/bin/sh\ncase "$1" in -c) exit 0 ;; --version) echo Python 3.11.2 ;; *) exit 1 ;; esac\n')
    without.chmod(0o755)
    result = tree.run("environment work .", PYTHON=str(without))
    assert result.returncode == 2
    assert "apt install python3-venv" in result.stderr
