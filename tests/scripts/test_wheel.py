"""What is released: the wheels that cibuildwheel would build, the source distribution, and scripts/wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from scripts import wheel_contents
from tests.clone import ROOT, clone_into, quick_compiler

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def identifiers(folder: Path) -> subprocess.CompletedProcess[str]:
    """The wheels that cibuildwheel would build of a project."""
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", "linux"]
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, timeout=120, check=False)


def build_sdist(source: Path, out: Path) -> Path:
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = out.glob("*.tar.gz")
    return built


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy2(ROOT / "pyproject.toml", folder)
    return folder


class TestConfiguration:
    def test_each_python_on_each_architecture(self, project: Path):
        result = identifiers(project)
        assert result.returncode == 0, result.stderr
        versions = re.findall(r"Python :: (3)\.(\d+)", "\n".join(PROJECT["project"]["classifiers"]))
        expected = {f"cp{major}{minor}-manylinux_{arch}" for major, minor in versions for arch in ("x86_64", "aarch64")}
        assert len(expected) == 8
        assert set(result.stdout.split()) == expected

    def test_a_mistake_in_it_is_refused(self, project: Path):
        text = (project / "pyproject.toml").read_text()
        (project / "pyproject.toml").write_text(text.replace("repair-wheel-command", "repare-wheel-command"))
        result = identifiers(project)
        assert result.returncode != 0
        assert "repare-wheel-command" in result.stdout + result.stderr


class TestSourceDistribution:
    def test_it_has_all_that_is_needed_to_build(self, tmp_path: Path):
        sdist = build_sdist(ROOT, tmp_path)
        assert wheel_contents.of_sdist(sdist) == []

    def test_nor_does_it_need_git(self, tmp_path: Path):
        sdist = build_sdist(clone_into(tmp_path / "clone"), tmp_path)
        assert wheel_contents.of_sdist(sdist) == []


class TestContents:
    """What is checked can be wrong."""

    @pytest.fixture
    def names(self) -> set[str]:
        """The names of a right one."""
        files = wheel_contents.packaged() | {f"wsrec-1.dist-info/{name}" for name in wheel_contents.about()}
        files |= {f"wsrec-1.data/data/{name}" for name in wheel_contents.data_files()}
        assert files > {
            "wsrec/cli/main.py",
            "wsrec/configs/okx.yaml",
            "wsrec/configs/feed.schema.json",
            "wsrec/py.typed",
        }
        return files | {f"{name.replace('.', '/')}.cpython-311-x86_64-linux-gnu.so" for name in wheel_contents.MODULES}

    def wrong(self, folder: Path, names: set[str], tag: str = "manylinux_2_17_x86_64") -> list[str]:
        path = folder / f"wsrec-1-cp311-cp311-{tag}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for name in names:
                wheel.writestr(name, "")
        return wheel_contents.of_wheel(path)

    def test_nothing_is_wrong(self, tmp_path: Path, names: set[str]):
        assert self.wrong(tmp_path, names) == []

    def test_what_is_missing(self, tmp_path: Path, names: set[str]):
        missing = ("okx.yaml", "licenses/LICENSE", "py.typed", "wsrec-sql.1")
        gone = {name for name in names if "_hotpath." in name or name.endswith(missing)}
        assert self.wrong(tmp_path, names - gone) == [
            "wsrec.receive._hotpath is not compiled",
            "wsrec/configs/okx.yaml is missing",
            "wsrec/py.typed is missing",
            "licenses/LICENSE is missing",
            "share/man/man1/wsrec-sql.1 is missing",
        ]

    @pytest.mark.parametrize(
        "name", ["wsrec/receive/_hotpath.c", "tests/test_it.py", "wsrec/gone/since.py", "wsrec-1.data/data/share/doc/x"]
    )
    def test_what_should_not_be_there(self, tmp_path: Path, names: set[str], name: str):
        assert self.wrong(tmp_path, names | {name}) == [f"{name} should not be there"]

    def test_a_wheel_for_this_system_alone(self, tmp_path: Path, names: set[str]):
        assert self.wrong(tmp_path, names, "linux_x86_64") == ["it is for this system alone, and not a manylinux wheel"]

    def test_a_source_distribution_without_the_sources_of_what_is_compiled(self, tmp_path: Path):
        with tarfile.open(tmp_path / "wsrec-1.tar.gz", "w:gz") as archive:
            for path in (ROOT / "wsrec").rglob("*.py"):
                archive.add(path, f"wsrec-1/{path.relative_to(ROOT)}")
        wrong = wheel_contents.of_sdist(tmp_path / "wsrec-1.tar.gz")
        assert "wsrec/receive/_hotpath.pyx is missing" in wrong
        assert "pyproject.toml is missing" in wrong


@pytest.mark.long
class TestBuilt:
    @pytest.mark.timeout(600)
    def test_the_wheel_records_where_nothing_can_compile(self, tmp_path: Path):
        if shutil.which("cc") is None:
            pytest.skip("a C compiler is not installed")
        clone = clone_into(tmp_path / "clone")
        environment = {**os.environ, **quick_compiler(tmp_path)}
        result = subprocess.run(
            ["scripts/wheel"], cwd=clone, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(r"^compiled, CPython", result.stdout, re.MULTILINE)
        assert "nothing known to be missing" in result.stdout
        assert len([*(clone / "dist").glob("*manylinux*.whl")]) == len([*(clone / "dist").glob("*.tar.gz")]) == 1
