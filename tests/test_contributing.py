"""The pages for who takes the project over: what they name is there, and each has what it has to have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests import page_blocks
from tests.named_in_docs import ROOT, is_there, missing, unfitting

DECISIONS = ROOT / "docs" / "decisions"
EXPLANATION = ROOT / "docs" / "explanation"
INDEX = DECISIONS / "README.md"
# what the changelog names may be gone
PAGES = [page for page in page_blocks.PAGES if page.name != "CHANGELOG.md"]
HEADINGS = ["Context", "Decision", "Figures", "Rejected"]


def decisions() -> list[Path]:
    return sorted(DECISIONS.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path):
    assert not missing(page.read_text())


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", EXPLANATION / "monitor.md"], ids=lambda page: page.name)
def test_diffs_that_a_page_shows_fit(page: Path):
    text = page.read_text()
    assert "```diff\n" in text
    assert not unfitting(text)


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", EXPLANATION / "monitor.md"], ids=lambda page: page.name)
def test_diffs_fit_whatever_is_added_beside_them(page: Path):
    def grown(name: str) -> str:
        return "".join(f"{line}\nadded = {n}\n" for n, line in enumerate((ROOT / name).read_text().splitlines()))

    assert not unfitting(page.read_text(), grown)


def test_a_diff_that_does_not_fit_is_named():
    diff = "--- a/wsrec/counts.py\n+++ b/wsrec/counts.py\n@@ -1 +1 @@\n class Counts{}:\n+    more: int\n"
    for base, count in (("(msgspec.Struct, frozen=True, kw_only=True)", 0), ("(dict)", 1)):
        assert len(unfitting(f"```diff\n{diff.format(base)}```\n")) == count


@pytest.mark.parametrize(
    ("part", "fits"),
    [
        ("@@ -1 +1 @@ class Counts\n+    more: int\n", True),
        ("@@ -1 +1 @@ class Accounts\n+    more: int\n", False),
        ("@@ -1 +1 @@ class Counter\n class Counts(msgspec.Struct, frozen=True, kw_only=True):\n+x\n", False),
        ("@@ -1 +1 @@\n-_ABSENT = 1\n+x\n", False),
        ("+x\n", True),
    ],
)
def test_a_part_belongs_to_what_its_heading_names(part: str, fits: bool):
    diff = f"```diff\n--- a/wsrec/counts.py\n+++ b/wsrec/counts.py\n{part}```\n"
    assert bool(unfitting(diff)) is not fits


@pytest.mark.parametrize(
    ("span", "there"),
    [
        ("receive.hotpath.HotPath.on_readable", True),
        ("receive.hotpath.HotPath.on_nothing", False),
        ("receive.nowhere", False),
        ("receive._hotpath", True),
        ("ring.events.EventKind.GAP", True),
        ("shutdown.LIMITS", True),
        ("wsrec/receive/hotpath.py", True),
        ("wsrec/receive/hotpaths.py", False),
        ("tests/test_house.py::TestWalls", True),
        ("tests/test_house.py::TestWalls::test_data_flows_one_way", True),
        ("tests/test_house.py::TestDoors", False),
        ("ssl.MemoryBIO", True),
        ("scripts/test --long", True),
        ("scripts/nothing --long", False),
        ("OUT/messages/", True),
    ],
)
def test_a_name_is_looked_up(span: str, there: bool):
    assert is_there(span) is there


class TestArchitecture:
    PAGE = (EXPLANATION / "architecture.md").read_text()

    def test_the_rooms_are_those_of_the_contract(self):
        (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
        layers = [re.split(r"\s*[|:]\s*", layer) for layer in contract["layers"]]
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", self.PAGE, re.MULTILINE)
        assert rows == [(str(place), room) for place, layer in enumerate(layers, 1) for room in layer]

    def test_every_invariant_names_the_test_that_holds_it(self):
        section = self.PAGE.partition("\n## Invariants\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (.*) \| (.*) \|$", section, re.MULTILINE)[2:]
        assert len(rows) > 15
        for invariant, tests in rows:
            assert re.search(r"`tests/[\w/]+\.py", tests), invariant


class TestDecisions:
    def test_the_index_has_every_page_in_order(self):
        linked = re.findall(r"^\| \[[^]]+\]\((\d{4}-[\w-]+\.md)\) \|", INDEX.read_text(), re.MULTILINE)
        assert linked == [page.name for page in decisions()]
        assert [name[:4] for name in linked] == [f"{number:04d}" for number in range(1, len(linked) + 1)]

    @pytest.mark.parametrize("page", decisions(), ids=lambda page: page.stem)
    def test_a_page_has_its_headings(self, page: Path):
        text = page.read_text()
        title = re.match(r"# (\d{4}): (.+)\n", text)
        assert title is not None
        assert title[1] == page.name[:4]
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
        sections = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
        assert all(len(section.strip()) > 40 for section in sections)
