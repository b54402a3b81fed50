"""What is installed is what is in the tree, and the scripts that a newcomer runs first work."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.clone import clone_into

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as a fresh clone has it."""
    return clone_into(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment of the scripts in the clone, without a compiler: scripts/wheel is tested with one."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VIRTUAL_ENV")}
    return environment | {"CC": "no-such-compiler"}


def run_demo(clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["scripts/demo"], cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def demo(clone: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The output of `scripts/demo` in the fresh clone."""
    return run_demo(clone, environment)


class TestPackage:
    def test_every_package_is_listed(self):
        listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
        found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "wsrec").rglob("__init__.py")}
        assert set(listed) == found | {"wsrec.configs"}

    @pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("cc") is None, reason="no C compiler")
    def test_every_compiled_module_was_built(self):
        """They are optional, so an installation succeeds without one that does not compile."""
        modules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
        missing = [module["name"] for module in modules if find_spec(module["name"]) is None]
        assert not missing, "compile them: their errors are in the build's output"

    def test_scripts_need_nothing_but_python(self):
        """Each makes the environment that it runs in."""
        programs = [path for path in (ROOT / "scripts").iterdir() if path.is_file() and os.access(path, os.X_OK)]
        assert len(programs) > 10
        for program in programs:
            text = program.read_text()
            assert text.startswith(("#!/bin/sh\n", "#!/usr/bin/env bash\n")), program
            assert ". scripts/environment\n" in text or program.name == "kernel-vm", program


@pytest.mark.long
class TestDemo:
    """It installs by way of a wheel, which is made once for all of these."""

    @pytest.mark.timeout(600)
    def test_records_and_prints_the_report(self, demo: subprocess.CompletedProcess[str]):
        assert demo.returncode == 0, demo.stderr
        assert "NIC->HANDOFF" in demo.stdout
        assert "no loss known" in demo.stdout
        assert "nothing is compiled without a C compiler" in demo.stderr

    @pytest.mark.timeout(600)
    def test_what_is_installed_has_the_catalogue(self, demo: subprocess.CompletedProcess[str], clone: Path):
        assert demo.returncode == 0, demo.stderr
        (installed,) = clone.glob(".venv-demo/lib/python3*/site-packages/wsrec")
        names = {path.name for path in (installed / "configs").glob("*.yaml")}
        assert names == {path.name for path in (ROOT / "configs").glob("*.yaml")}
        # and what the HTML report is made of, with the licence of its library
        assets = Path("wsrec") / "pictures" / "assets"
        for path in (ROOT / assets).rglob("*.*"):
            assert (installed.parent / path.relative_to(ROOT)).exists(), path
        assert (installed / "pictures" / "assets" / "echarts" / "LICENSE").exists()
        assert (installed / "py.typed").is_file()
        pages = {path.name for path in clone.glob(".venv-demo/share/man/man1/*")}
        assert pages == {path.name for path in (ROOT / "man").iterdir()} > {"wsrec.1", "wsrec-record.1"}

    @pytest.mark.timeout(600)
    def test_the_second_run_installs_nothing_and_needs_no_network(
        self, demo: subprocess.CompletedProcess[str], clone: Path, environment: dict[str, str]
    ):
        assert "demo: installing into .venv-demo" in demo.stderr
        nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:1/", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0"}
        again = run_demo(clone, environment | nowhere)
        assert again.returncode == 0, again.stderr
        assert "NIC->HANDOFF" in again.stdout
        assert "installing" not in again.stderr
        kept = sorted((clone / "captures-demo").iterdir())
        assert len(kept) == 2
        assert f"the capture stays in captures-demo/{kept[1].name}" in again.stderr
