"""The walls between the rooms hold: import-linter's contracts, to which the compiled sources are held here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent
_IMPORTS = re.compile(r"^\s*(?:from wsrec(?:\.(\w+))?[\w.]* c?import (\w+)|c?import wsrec\.(\w+))", re.MULTILINE)


def layers() -> dict[str, int]:
    """Each room's layer, 0 on top."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (contract,) = settings["contracts"]
    return {room: place for place, layer in enumerate(contract["layers"]) for room in re.split(r"\s*[|:]\s*", layer)}


def imported(source: str) -> set[str]:
    """The rooms that a Cython source imports or cimports."""
    return {package or name or module for package, name, module in _IMPORTS.findall(source)}


class TestWalls:
    def test_data_flows_one_way(self, monkeypatch):
        monkeypatch.chdir(ROOT)
        assert lint_imports(config_filename="pyproject.toml", no_cache=True) == EXIT_STATUS_SUCCESS

    def test_compiled_sources_keep_to_it(self):
        rooms = layers()
        sources = [path for ending in ("pyx", "pxd") for path in (ROOT / "wsrec").rglob(f"*.{ending}")]
        assert len(sources) > 4
        for path in sources:
            own = path.relative_to(ROOT / "wsrec").parts[0]
            for room in imported(path.read_text()):
                assert room == own or rooms[room] > rooms[own], f"{path} imports from {room}, which is above {own}"

    def test_what_a_source_imports(self):
        text = "from wsrec.host._clock cimport now\nfrom wsrec import stages\ncimport wsrec.ring.counter\nx = 1\n"
        assert imported(text) == {"host", "stages", "ring"}
