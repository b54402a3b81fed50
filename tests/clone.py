"""The tree as a fresh clone has it, without its history, and what installs it quickly."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def clone_into(folder: Path) -> Path:
    """Copy what git tracks, or would, into `folder`; skips the test where that is not known."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed here")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def quick_compiler(folder: Path) -> dict[str, str]:
    """A setting of `CC` that does not optimise, which is most of the time of an installation."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return {}
    path = folder / "cc"
    path.write_text(f'#!/bin/sh\nexec {shlex.quote(compiler)} "$@" -O0 -g0\n')
    path.chmod(0o755)
    return {"CC": str(path)}
