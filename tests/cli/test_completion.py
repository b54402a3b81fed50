"""`wsrec completion`: the scripts, in the shells that are installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsrec.cli.completion_script import SHELLS
from wsrec.cli.main import main

PLACES = {
    "bash": "data/bash-completion/completions/wsrec",
    "zsh": "data/zsh/site-functions/_wsrec",
    "fish": "config/fish/completions/wsrec.fish",
}
LOADER = Path("/usr/share/bash-completion/bash_completion")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home, and wsrec on PATH, where it notes each start."""
    for name, value in {"HOME": "", "XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.delenv("BASH_COMPLETION_USER_DIR", raising=False)
    program = tmp_path / "bin" / "wsrec"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho x >> {tmp_path}/starts\nexec {sys.executable} -P -m wsrec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def run(*words: str):
    return CliRunner().invoke(main, ["completion", *words])


def shell(home: Path, program: str, *words: str) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False, cwd=home)
    assert done.returncode == 0, done.stderr
    return done.stdout


def starts(home: Path) -> int:
    return len((home / "starts").read_text().split()) if (home / "starts").exists() else 0


@pytest.mark.parametrize("name", SHELLS)
class TestInstall:
    def test_it_says_what_it_did_and_how_to_undo_it(self, home: Path, name):
        path = home / PLACES[name]
        first, again = run("install", name), run("install", name)
        assert (first.exit_code, again.exit_code) == (0, 0)
        assert first.stdout.splitlines()[0] == f"wrote {path}"
        assert first.stdout.splitlines()[-1] == f"to undo: rm {path}"
        assert again.stdout.splitlines()[0] == f"unchanged: {path}"
        assert path.read_text() == run("show", name).stdout
        # nothing else was made or changed
        assert {file for file in home.rglob("*") if file.is_file()} == {home / "bin" / "wsrec", path}

    def test_the_shell_is_the_users(self, home: Path, name, monkeypatch):
        monkeypatch.setenv("SHELL", f"/usr/bin/{name}")
        assert run("show").stdout == run("show", name).stdout

    def test_an_older_script_is_replaced_and_another_file_is_not(self, home: Path, name):
        path = home / PLACES[name]
        path.parent.mkdir(parents=True)
        path.write_text("# _WSREC_COMPLETE of before\n")
        assert run("install", name).stdout.startswith("wrote ")
        path.write_text("my own\n")
        refused = run("install", name)
        assert (refused.exit_code, path.read_text()) == (1, "my own\n")
        assert f"{path} is there and not wsrec's" in refused.stderr


class TestMistakes:
    def test_an_unknown_shell(self, monkeypatch):
        result = run("show", "tcsh")
        assert (result.exit_code, "found 'tcsh', expected bash, zsh or fish" in result.stderr) == (2, True)
        monkeypatch.setenv("SHELL", "/bin/tcsh")
        assert run("show").stderr == "wsrec completion show: SHELL is 'tcsh': name the shell: bash, zsh or fish\n"
        monkeypatch.delenv("SHELL")
        assert run("install").exit_code == 2

    def test_a_folder_that_cannot_be_made(self, home: Path, monkeypatch):
        (home / "file").touch()
        monkeypatch.setenv("XDG_DATA_HOME", str(home / "file"))
        result = run("install", "bash")
        assert (result.exit_code, "cannot write the script: Not a directory" in result.stderr) == (66, True)


class TestShells:
    def test_bash(self, home: Path):
        if not LOADER.exists():
            pytest.skip("bash-completion is not installed")
        run("install", "bash")
        script = f". {LOADER}; echo started; cat starts 2>/dev/null; _completion_loader wsrec; cat starts 2>/dev/null; "
        script += "COMP_WORDS=(wsrec re); COMP_CWORD=1; _wsrec_completion wsrec; echo ${COMPREPLY[@]}"
        assert shell(home, "bash", "--norc", "-c", script).splitlines() == ["started", "record report recover replay"]
        assert starts(home) == 1

    def test_fish(self, home: Path):
        run("install", "fish")
        assert shell(home, "fish", "--no-config", "-c", "true") == ""
        assert starts(home) == 0
        found = shell(home, "fish", "-c", "complete -C 'wsrec re'").splitlines()
        assert [line.split("\t")[0] for line in found] == ["record", "recover", "replay", "report"]

    def test_zsh(self, home: Path):
        run("install", "zsh")
        folder = (home / PLACES["zsh"]).parent
        script = f"fpath=({folder} $fpath); autoload -Uz compinit && compinit -u -D; echo $_comps[wsrec]"
        assert shell(home, "zsh", "-f", "-c", script) == "_wsrec\n"
        assert starts(home) == 0
