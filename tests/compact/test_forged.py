"""wsrec compact and manifests that others wrote: nothing outside of the folder, and no other file of it, is touched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.compact.captures import compact, contents, write
from wsrec.format import manifest
from wsrec.format.layout import manifest_path
from wsrec.format.manifest import ManifestLine
from wsrec.verify.model import Kind
from wsrec.verify.verify import verify

Forge = Callable[[ManifestLine, Path], dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of two pairs of one session."""
    return write(tmp_path_factory.mktemp("recorded") / "out")


@pytest.fixture
def out(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "captures" / "out"))


@pytest.fixture
def outside(out: Path, tmp_path: Path) -> Path:
    """Files that are not the capture's: a message file with its rows, and one of another program."""
    folder = tmp_path / "outside"
    folder.mkdir()
    shutil.copy(out / str(manifest.read(out)[0].path), folder / "messages.parquet")
    (folder / "notes.txt").write_text("mine")
    return folder


def rewrite(out: Path, *lines: ManifestLine) -> None:
    manifest_path(out).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


FORGED: dict[str, Forge] = {
    "an absolute path": lambda _, outside: {"path": str(outside / "messages.parquet")},
    "a path above": lambda _, outside: {"path": "../../outside/messages.parquet"},
    "an absolute events path": lambda _, outside: {"events_path": str(outside / "notes.txt")},
    "an events path above": lambda _, outside: {"events_path": "../../outside/notes.txt"},
    "both": lambda _, outside: {"path": str(outside / "messages.parquet"), "events_path": "../../outside/notes.txt"},
    "no path at all": lambda *_: {"path": None, "events_path": None},
    "the path of another pair": lambda line, _: {"path": str(line.path).replace("-000001.", "-000002.")},
    "the manifest": lambda *_: {"events_path": ".wsrec/manifest.jsonl"},
    "the kinds exchanged": lambda line, _: {"path": line.events_path, "events_path": line.path},
    "an impossible name": lambda line, _: {"path": f"{line.path}".replace("feed=", "feed=\0")},
    "another session": lambda *_: {"session": "../../../outside"},
    "another hour": lambda line, _: {"path": str(line.path).replace("hour=13", "hour=12")},
}


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize(("removed", "keep"), [(None, 1.0), (1, None)])
def test_a_forged_line_is_named_and_nothing_is_touched(out, outside, forged, removed, keep):
    first, second = manifest.read(out)
    rewrite(out, msgspec.structs.replace(first, removed=removed, **FORGED[forged](first, outside)), second)
    before, theirs = contents(out), contents(outside)
    result = compact(out, keep=keep)
    assert contents(outside) == theirs
    assert result.status == 1
    assert [problem for problem in result.problems if "manifest.jsonl" in problem]
    # neither this pair nor, as its session is in doubt, the next
    assert contents(out) == before


def test_a_forged_removal_elsewhere_is_not_believed(out):
    first, second = manifest.read(out)
    young = {"path": str(first.path).replace("hour=13", "hour=12"), "removed": 1}
    before = contents(out)
    rewrite(out, first, second, msgspec.structs.replace(first, **young))
    result = compact(out, keep=1.0)
    assert result.status == 1
    assert {path: data for path, data in contents(out).items() if path != ".wsrec/manifest.jsonl"} == {
        path: data for path, data in before.items() if path != ".wsrec/manifest.jsonl"
    }


@pytest.mark.parametrize("kind", ["messages", "events"])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_folders_that_lead_elsewhere_are_not_entered(out, tmp_path, kind, depth):
    first = manifest.read(out)[0]
    name = Path(str(first.path if kind == "messages" else first.events_path))
    folder = out / [*name.parents][::-1][1:][depth]
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    theirs, before = contents(tmp_path / "elsewhere"), contents(out)
    result = compact(out, keep=1.0)
    assert contents(tmp_path / "elsewhere") == theirs
    assert contents(out) == before
    assert result.status == 1
    assert any("leads elsewhere" in problem for problem in result.problems)


def test_an_own_folder_elsewhere_is_not_used(out, tmp_path):
    shutil.move(out / ".wsrec", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "compacting").mkdir()
    (tmp_path / "elsewhere" / "compacting" / "mine").write_text("mine")
    (out / ".wsrec").symlink_to(tmp_path / "elsewhere")
    theirs = contents(tmp_path / "elsewhere")
    with pytest.raises(Exception, match="leads elsewhere"):
        compact(out, keep=1.0)
    assert contents(tmp_path / "elsewhere") == theirs


def test_a_removal_behind_the_beginning_is_a_contradiction_and_not_finished(out):
    first, second = manifest.read(out)
    rewrite(out, first, second, msgspec.structs.replace(second, removed=1))
    before = contents(out)
    result = compact(out)
    assert contents(out) == before
    assert result.status == 1
    assert any("beginning" in problem for problem in result.problems)
    for name in (second.path, second.events_path):
        (out / str(name)).unlink()
    found = verify([out])
    (capture,) = found.captures
    assert any(each.kind is Kind.CONTRADICTION and "beginning" in each.what for each in capture.findings)
    assert any("file is gone" in each.what for each in capture.findings)
    assert found.status != 0


def test_an_output_folder_behind_a_link_is_its_own(out, tmp_path):
    (tmp_path / "link").symlink_to(out)
    assert compact(tmp_path / "link").sorted.files == 2
