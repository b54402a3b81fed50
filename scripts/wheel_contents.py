"""What is in a wheel and in a source distribution, against what has to be: run by scripts/wheel.

    python scripts/wheel_contents.py WHEEL SDIST

Prints both sizes; each thing that is missing, or should not be there, is a line on standard error and exit status 1.
"""

from __future__ import annotations

import fnmatch
import re
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
JUNK = ("*.pyc", "*/__pycache__/*", "*.so", "/wsrec/*.c", "*/.venv*", "*/build/*", "*/captures*/*")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PROJECT["tool"]["setuptools"]
MODULES = [module["name"] for module in SETUPTOOLS["ext-modules"]]


def packaged() -> set[str]:
    """The files of a wheel's packages, besides what is compiled: of its sources, those that run."""
    found = {"wsrec/_version.py"}
    for package in SETUPTOOLS["packages"]:
        place = package.replace(".", "/")
        folder = ROOT / SETUPTOOLS["package-dir"].get(package, place)
        patterns = ["*.py", *SETUPTOOLS["package-data"].get(package, [])]
        files = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
        found |= {f"{place}/{file.relative_to(folder)}" for file in files}
    return found


def about() -> set[str]:
    """What has to be in a wheel's `.dist-info`, besides its list of files."""
    licences = [
        file.relative_to(ROOT) for pattern in PROJECT["project"]["license-files"] for file in ROOT.glob(pattern)
    ]
    return {f"licenses/{file}" for file in licences} | {"entry_points.txt", "METADATA"}


def data_files() -> set[str]:
    """The files that an installation puts beside its packages, such as manual pages: from the environment's folder."""
    return {
        f"{place}/{file.name}"
        for place, patterns in SETUPTOOLS["data-files"].items()
        for pattern in patterns
        for file in ROOT.glob(pattern)
    }


def of_wheel(path: Path) -> list[str]:
    """What is wrong with a wheel."""
    names = [name for name in zipfile.ZipFile(path).namelist() if not name.endswith("/")]
    compiled = {name.partition(".")[0].replace("/", "."): name for name in names if name.endswith(".so")}
    wrong = [f"{module} is not compiled" for module in MODULES if module not in compiled]
    expected = packaged()
    wrong += [f"{name} is missing" for name in sorted(expected - set(names))]
    there = {name.partition(".dist-info/")[2] for name in names}
    wrong += [f"{name} is missing" for name in sorted(about() - there)]
    # a wheel's `.data/data` goes into the environment
    outside = {name.partition(".data/data/")[2] for name in names}
    wrong += [f"{name} is missing" for name in sorted(data_files() - outside)]
    known = expected | {compiled[module] for module in MODULES if module in compiled}
    wrong += [
        f"{name} should not be there"
        for name in names
        if name not in known
        and not re.match(r"wsrec-[^/]+\.dist-info/", name)
        and name.partition(".data/data/")[2] not in data_files()
    ]
    if "-manylinux" not in path.name:
        wrong.append("it is for this system alone, and not a manylinux wheel")
    return wrong


def of_sdist(path: Path) -> list[str]:
    """What is wrong with a source distribution."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    patterns = (
        "wsrec/**/*.py",
        "wsrec/**/*.pyx",
        "wsrec/**/*.pxd",
        "wsrec/**/*.h",
        "wsrec/py.typed",
        "configs/*",
        "man/*",
    )
    expected = {str(file.relative_to(ROOT)) for pattern in patterns for file in ROOT.glob(pattern) if file.is_file()}
    expected |= {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"}
    wrong = [f"{name} is missing" for name in sorted(expected - names)]
    return wrong + [
        f"{name} should not be there"
        for name in sorted(names)
        if any(fnmatch.fnmatch(f"/{name}", pattern) for pattern in JUNK)
    ]


def main() -> int:
    """Arguments: the wheel and the source distribution."""
    wheel, sdist = map(Path, sys.argv[1:])
    wrong = [(wheel, text) for text in of_wheel(wheel)] + [(sdist, text) for text in of_sdist(sdist)]
    for path, text in wrong:
        sys.stderr.write(f"{path.name}: {text}\n")
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
