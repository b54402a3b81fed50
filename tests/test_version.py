"""The version: what a build writes from git, from a source distribution and from neither, and what a checkout says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = (sys.executable, "-W", "ignore", "-c", "from setuptools import setup; setup()", "--quiet")
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main")


def run(folder: Path, *command: str, **variables: str) -> str:
    # those of git itself would name another repository
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SETUPTOOLS_SCM"))}
    done = subprocess.run(
        command, cwd=folder, env={**environment, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def stated(folder: Path, **variables: str) -> str:
    """The version and commit that a source tree's wsrec states."""
    script = "from wsrec.version import full_version; print(full_version())"
    # without the site's packages: an editable wsrec is found there, too
    return run(folder, sys.executable, "-P", "-S", "-c", script, PYTHONPATH=str(folder), **variables)


def built(folder: Path) -> str:
    """What the build writes, as it is stated where there is no git."""
    run(folder, *BUILD, "egg_info")
    hidden, git = folder / "hidden", folder / ".git"
    if git.exists():
        git.rename(hidden)
    try:
        return stated(folder)
    finally:
        if hidden.exists():
            hidden.rename(git)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source tree without git's data: what the build reads of this one."""
    tree = tmp_path / "source"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, tree)
    packages = tree / "wsrec"
    for folder in (ROOT / "wsrec").iterdir():
        if folder.is_dir() and folder.name != "__pycache__":
            (packages / folder.name).mkdir(parents=True)
            (packages / folder.name / "__init__.py").touch()
    # git keeps no empty folder
    (tree / "configs").mkdir()
    (tree / "configs" / "x.yaml").touch()
    for name in ("__init__.py", "version.py"):
        shutil.copy(ROOT / "wsrec" / name, packages)
    return tree


@pytest.fixture
def clone(source: Path) -> Path:
    """The same as a repository of one commit without a tag."""
    run(source, *GIT, "init", "-q")
    run(source, *GIT, "add", ".")
    run(source, *GIT, "commit", "-qm", "one")
    return source


class TestBuild:
    def test_of_a_clone_without_tags(self, clone: Path):
        head = run(clone, "git", "rev-parse", "--short=9", "HEAD")
        assert re.fullmatch(rf"0\.1\.0\.dev\d+ \({head}\)", built(clone))

    def test_of_a_tag_and_after_it(self, clone: Path):
        run(clone, "git", "tag", "v0.7.0")
        head = run(clone, "git", "rev-parse", "--short=9", "HEAD")
        assert built(clone) == f"0.7.0 ({head})"
        with (clone / "README.md").open("a") as file:
            file.write("changed\n")
        assert built(clone) == f"0.7.1.dev0 ({head}, changed)"

    def test_of_a_source_distribution(self, clone: Path, tmp_path: Path):
        run(clone, "git", "tag", "v0.7.0")
        head = run(clone, "git", "rev-parse", "--short=9", "HEAD")
        run(clone, *BUILD, "sdist")
        with tarfile.open(clone / "dist" / "wsrec-0.7.0.tar.gz") as archive:
            archive.extractall(tmp_path, filter="data")
        assert built(tmp_path / "wsrec-0.7.0") == f"0.7.0 ({head})"

    def test_of_an_archive_without_git(self, source: Path):
        assert built(source) == "0.1.0.dev0"


class TestCheckout:
    def test_its_commit_is_that_of_now_not_of_the_build(self, clone: Path):
        run(clone, "git", "tag", "v0.7.0")
        run(clone, *BUILD, "egg_info")
        run(clone, *GIT, "commit", "-qm", "two", "--allow-empty")
        head = run(clone, "git", "rev-parse", "--short=9", "HEAD")
        assert stated(clone) == f"0.7.0 ({head})"
        with (clone / "README.md").open("a") as file:
            file.write("changed\n")
        assert stated(clone) == f"0.7.0 ({head}, changed)"

    def test_a_hooks_variables_name_no_other_repository(self, clone: Path, tmp_path: Path):
        run(clone, *BUILD, "egg_info")
        expected = stated(clone)
        run(tmp_path, "git", "init", "-q", "other")
        assert stated(clone, GIT_DIR=str(tmp_path / "other" / ".git")) == expected

    def test_without_git_it_is_the_builds(self, clone: Path, tmp_path: Path):
        run(clone, *BUILD, "egg_info")
        assert stated(clone, PATH=str(tmp_path)) == stated(clone)

    def test_a_tree_that_was_never_built_has_a_version(self, source: Path):
        assert stated(source) == "0+unknown"
