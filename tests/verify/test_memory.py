"""wsrec.verify.memory: what was proved is not read again, what changed is, and nothing is called better than it is."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import msgspec
import pytest

from tests.effort import thinned
from tests.verify.conftest import lines_of, message_paths, write_lines
from tests.verify.remembering import grown, same, settle, simulated
from wsrec.verify import memory as memories
from wsrec.verify.memory import Memory, default_folder
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated capture of several pairs of files, whose files are sound."""
    for seed in range(50):
        out = simulated(seed, tmp_path_factory.mktemp("several") / "out")
        if len(lines_of(out)) > 2 and verify([out]).status in (VerifyStatus.HOLDS, VerifyStatus.INCOMPLETE):
            return out
    raise AssertionError("no seed makes one")


@pytest.fixture
def capture(several: Path, tmp_path: Path) -> Path:
    """A copy of it, old enough to be remembered."""
    out = Path(shutil.copytree(several, tmp_path / "out"))
    settle()
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "memory"


def remembered(result) -> list[int]:
    return [session.remembered for capture in result.captures for session in capture.sessions]


def read_bytes() -> int:
    """Bytes that this process has read so far, by read(2) and its like."""
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def test_a_second_verify_reads_no_file_and_says_the_same(capture, folder):
    first = verify([capture], memory=Memory(folder))
    assert remembered(first) == [0] * len(first.captures[0].sessions)
    before = read_bytes()
    second = verify([capture], memory=Memory(folder))
    spent = read_bytes() - before
    assert remembered(second) == [session.files for session in second.captures[0].sessions]
    assert same(second) == same(first) == same(verify([capture]))
    before = read_bytes()
    verify([capture])
    assert spent < (read_bytes() - before) / 5
    assert all(s.remembered_since < time.time_ns() for s in second.captures[0].sessions)


@pytest.mark.parametrize("kind", ["messages", "events"])
def test_a_changed_byte_is_found_even_if_size_and_time_of_modification_are_as_before(capture, folder, kind):
    verify([capture], memory=Memory(folder))
    path = max((capture / kind).rglob("*.parquet"), key=lambda path: path.stat().st_size)
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = verify([capture], memory=Memory(folder))
    assert found.status == VerifyStatus.DAMAGED
    assert str(path) in {each.where for each in found.captures[0].findings if each.kind is Kind.DAMAGED}
    # and what is damaged is never remembered
    assert verify([capture], memory=Memory(folder)).status == VerifyStatus.DAMAGED


def test_a_file_that_takes_the_place_of_another_is_read(capture, folder):
    verify([capture], memory=Memory(folder))
    path = message_paths(capture)[0]
    times = path.stat()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes()[:-1] + b"2")
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(path)
    assert verify([capture], memory=Memory(folder)).status == VerifyStatus.DAMAGED


def test_a_changed_line_of_the_manifest_is_found(capture, folder):
    verify([capture], memory=Memory(folder))
    lines = lines_of(capture)
    lines[0]["rows"] += 1
    write_lines(capture, lines)
    found = verify([capture], memory=Memory(folder))
    assert found.status == VerifyStatus.DAMAGED
    assert same(found) == same(verify([capture]))


def test_again_reads_everything_and_renews_what_is_remembered(capture, folder):
    first = verify([capture], memory=Memory(folder))
    again = verify([capture], memory=Memory(folder, again=True))
    assert remembered(again) == [0] * len(first.captures[0].sessions)
    (since,) = {s.remembered_since for s in verify([capture], memory=Memory(folder)).captures[0].sessions[:1]}
    assert verify([capture], memory=Memory(folder)).captures[0].sessions[0].remembered_since == since


def test_a_part_of_a_capture_is_read(capture, folder):
    verify([capture], memory=Memory(folder))
    paths = message_paths(capture)[:1]
    assert same(verify(paths, memory=Memory(folder))) == same(verify(paths))
    assert remembered(verify(paths, memory=Memory(folder))) == [0]


def test_a_file_that_changed_just_now_is_not_remembered(capture, folder):
    for path in capture.rglob("*.parquet"):
        path.touch()
    verify([capture], memory=Memory(folder))
    assert remembered(verify([capture], memory=Memory(folder))) == [0] * len(verify([capture]).captures[0].sessions)


def memory_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def another_wsrec(path: Path) -> None:
    found = msgspec.msgpack.decode(path.read_bytes()[32:])
    found["made_by"] = "0.0.9 another"
    rewrite(path, msgspec.msgpack.encode(found))


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(memories.hashlib.sha256(data).digest() + data)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-40] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        another_wsrec,
        flipped,
        lambda path: path.write_bytes(b""),
        lambda path: rewrite(path, b"\xc0"),
        lambda path: path.chmod(0o666),
        lambda path: path.parent.chmod(0o777),
        lambda path: path.rename(path.with_name("moved")) and path.symlink_to("moved"),
    ],
    ids=["of another wsrec", "flipped", "empty", "another form", "writable", "in a writable folder", "a link"],
)
def test_what_cannot_be_relied_on_is_not_used(capture, folder, change):
    first = verify([capture], memory=Memory(folder))
    for path in memory_files(folder):
        change(path)
    second = verify([capture], memory=Memory(folder))
    assert remembered(second) == [0] * len(first.captures[0].sessions)
    assert same(second) == same(first)


def test_where_nothing_can_be_kept_the_capture_is_verified_all_the_same(capture, tmp_path):
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "memory")
    assert same(verify([capture], memory=memory)) == same(verify([capture]))
    assert memory.problem is not None
    assert str(tmp_path / "file") in memory.problem


def test_sessions_that_are_gone_are_forgotten(capture, folder):
    verify([capture], memory=Memory(folder))
    assert memory_files(folder)
    for kind in ("messages", "events"):
        shutil.rmtree(capture / kind, ignore_errors=True)
    write_lines(capture, [])
    verify([capture], memory=Memory(folder))
    assert memory_files(folder) == []


def test_the_memory_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "wsrec" / "proved"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "wsrec" / "proved"


@pytest.mark.parametrize("seed", thinned(range(0, 40, 4)))
def test_of_a_capture_that_grows_only_new_files_are_read_and_the_same_is_said(seed, tmp_path):
    continued = 0
    for each in range(seed, seed + 4):
        continued += grown(each, tmp_path / str(each), random.Random(each))
    assert continued > 0
