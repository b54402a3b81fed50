"""The version of wsrec, and the commit of its source: the one place that says what is running.

The build writes both into `wsrec/_version.py`, from git's tags. A checkout that is installed as editable changes
without a build, so there git is asked which commit it is.
"""

from __future__ import annotations

import functools
import os
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parent.parent
# s: git that waits, for a network disk or a lock, holds up nobody
_TIMEOUT = 2.0
# characters of a commit's name, as in the version of a build
_SHORT = 9


class Commit(NamedTuple):
    """The commit that wsrec was made from.

    Attributes:
        name: the first digits of its hash.
        changed: whether tracked files had changes that are in no commit.

    """

    name: str
    changed: bool

    def __str__(self) -> str:
        return f"{self.name}, changed" if self.changed else self.name


def _built() -> tuple[str, Commit | None]:
    """The version and commit that the build wrote."""
    try:
        found = import_module("wsrec._version")
    except ModuleNotFoundError:
        # run from a source tree that was never built
        return _installed(), None
    commit = found.commit and Commit(found.commit.removeprefix("g")[:_SHORT], bool(found.changed))
    return found.version, commit or None


def _installed() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("wsrec")
    except PackageNotFoundError:
        return "0+unknown"


__version__, _built_commit = _built()


@functools.cache
def commit() -> Commit | None:
    """The commit of the source; None if neither git nor the build knows it."""
    # a file in a worktree
    if not (_ROOT / ".git").exists():
        return _built_commit
    import subprocess

    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--exclude=*", f"--abbrev={_SHORT}"]
    # in a hook git's variables name another repository; this one is only read
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment["GIT_OPTIONAL_LOCKS"] = "0"
    try:
        found = subprocess.run(  # noqa: S603
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return _built_commit
    return Commit(found.removesuffix("-dirty"), found.endswith("-dirty")) if found else _built_commit


def full_version() -> str:
    """Version and commit: `0.3.0 (2aac60e91)`, or `0.3.1.dev4 (2aac60e91, changed)`; the version alone without one."""
    found = commit()
    # what follows the plus repeats the commit, and after later ones is wrong
    return f"{__version__.partition('+g')[0]} ({found})" if found else __version__
