"""Containerfile and .containerignore: what a container is promised to be (docs/how-to/install.md)."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess

import click
import pytest

from tests.clone import ROOT
from wsrec.cli.main import main

Instructions = list[tuple[str, str]]


def stages() -> list[Instructions]:
    """The instructions of each stage, their continued lines joined."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: list[Instructions] = []
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found:
            found[-1].append((name, " ".join(rest.split())))
    return found


BUILD, FINAL = stages()
OF_FINAL = dict(FINAL)


def test_what_compiles_stays_in_the_first_stage():
    assert any("gcc" in rest for name, rest in BUILD if name == "RUN")
    assert not any("apt-get" in rest or "pip" in rest for name, rest in FINAL)
    assert [rest for name, rest in FINAL if name == "COPY"] == ["--from=build /opt/wsrec /opt/wsrec"]


def test_it_is_not_root_and_writes_to_its_volume():
    user = OF_FINAL["USER"].partition(":")[0]
    assert user.isdigit()
    assert user != "0"
    assert f"--uid {user}" in OF_FINAL["RUN"]
    assert OF_FINAL["VOLUME"] == OF_FINAL["WORKDIR"] == "/data"
    # nothing after it may be root's
    names = [name for name, _ in FINAL]
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


def test_it_is_wsrec_and_ends_in_order():
    assert json.loads(OF_FINAL["ENTRYPOINT"]) == ["wsrec"]
    assert OF_FINAL["STOPSIGNAL"] == "SIGTERM"


def test_its_health_is_the_recorder_s():
    check = OF_FINAL["HEALTHCHECK"].partition("CMD ")[2]
    assert check == 'wsrec status "$WSREC_RECORD_OUT" || [ $? -eq 4 ]'
    assert "WSREC_RECORD_OUT=/data/" in OF_FINAL["ENV"]
    assert "status" in main.list_commands(click.Context(main))


def test_a_failed_compilation_fails_the_build():
    assert BUILD[-1][1].endswith("/opt/wsrec/bin/wsrec --version | grep '^compiled'")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_nothing_that_git_tracks_is_left_out():
    """Or the version would say that the source was changed."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    lines = [line for line in (ROOT / ".containerignore").read_text().splitlines() if line and line[0] != "#"]
    patterns = [line.rstrip("/").removeprefix("**/") for line in lines]
    assert ".venv*" in patterns
    tracked = listed.stdout.splitlines()
    left_out = {
        name
        for name in tracked
        for pattern in patterns
        if any(fnmatch.fnmatch(part, pattern) for part in name.split("/")) or fnmatch.fnmatch(name, pattern)
    }
    assert left_out == set()
