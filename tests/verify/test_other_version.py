"""A capture of another version of the format is neither damaged nor foreign: each command names its version."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import click
import msgspec
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tests.conftest import Wsrec
from wsrec.cli.recover import recover
from wsrec.cli.replay import replay
from wsrec.cli.report import report
from wsrec.cli.verify import verify
from wsrec.format.lock import OutputLock
from wsrec.format.version import FORMAT_VERSION
from wsrec.verify import verify as verification
from wsrec.verify.model import Kind
from wsrec.writer import journal as journal_module
from wsrec.writer.journal import Journal

SAYS = f"it has format version 4, this wsrec reads version {FORMAT_VERSION}; use the wsrec that wrote it"


def of_version_4(path: Path) -> Path:
    """The same file as version 4 might have had it: with a column less."""
    table = pq.read_table(path, partitioning=None)
    found = pq.read_metadata(path).metadata
    about = {key: value for key, value in found.items() if key.startswith(b"wsrec.")}
    about |= {b"wsrec.format_version": b'"4"', b"wsrec.host": b"not even JSON"}
    pq.write_table(table.drop_columns(table.column_names[-1]).replace_schema_metadata(about), path)
    return path


def stated(command: click.Command, *arguments: object) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "1000"}).invoke(command, [*map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture
def earlier(out: Path) -> Path:
    """All of a capture as version 4."""
    for kind in ("messages", "events"):
        for path in (out / kind).rglob("*.parquet"):
            of_version_4(path)
    manifest = out / ".wsrec" / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps({**line, "format_version": 4, "ledger": 5}) + "\n" for line in lines))
    return out


def test_every_command_names_the_version_and_calls_nothing_damaged(earlier: Path) -> None:
    for command in (verify, report, replay):
        status, output = stated(command, earlier)
        assert (status, f".parquet: {SAYS}" in output) == (66, True), output
        assert "damaged" not in output.lower().replace("nothing damaged", ""), output
        assert "set the file aside" not in output
        assert "is there and not listed" not in output
    status, output = stated(recover, earlier)
    assert (status, f"manifest.jsonl:1: {SAYS}" in output) == (66, True), output


def test_each_line_and_each_file_is_a_finding_of_what_cannot_be_read(earlier: Path) -> None:
    (capture,) = verification.verify([earlier]).captures
    assert not {Kind.DAMAGED, Kind.CONTRADICTION} & {finding.kind for finding in capture.findings}, capture.findings
    named = {Path(finding.where).name for finding in capture.findings if finding.kind is Kind.UNREADABLE}
    assert {"manifest.jsonl:1", *(path.name for path in earlier.rglob("*.parquet"))} <= named


def test_an_events_file_alone(out: Path) -> None:
    (out / ".wsrec" / "manifest.jsonl").unlink()
    path = of_version_4(next((out / "events").rglob("*.parquet")))
    status, output = stated(report, out)
    assert (status, f"{path}: {SAYS}" in output) == (66, True), output


def test_a_line_that_states_none_is_of_before(out: Path) -> None:
    manifest = out / ".wsrec" / "manifest.jsonl"
    line = json.loads(manifest.read_text().splitlines()[0])
    del line["format_version"], line["ledger"]
    with manifest.open("a") as file:
        file.write(json.dumps(line) + "\n")
    number = len(manifest.read_text().splitlines())
    for command in (verify, recover):
        status, output = stated(command, out)
        assert (status, f"manifest.jsonl:{number}: it has no format version" in output) == (66, True), output


def test_a_garbled_line_is_named_by_recover_too(out: Path) -> None:
    manifest = out / ".wsrec" / "manifest.jsonl"
    number = len(manifest.read_text().splitlines()) + 1
    with manifest.open("a") as file:
        file.write('{"path": 5}\n')
    for command in (verify, recover):
        status, output = stated(command, out)
        assert (status, f"manifest.jsonl:{number}: is not a valid line" in output) == (1, True), output


@pytest.mark.parametrize("version", [4, "4", None])
def test_the_record_of_a_session(out: Path, version: int | str | None) -> None:
    path = out / ".wsrec" / "20261127T000000Z-1e57ed" / "session.json"
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode({"session": "s"} | ({"format_version": version} if version else {})))
    says = SAYS if version else "it has no format version, as before version 5"
    for command in (verify, recover):
        status, output = stated(command, out)
        assert (status, f"{path.name}: {says}" in output) == (66, True), output
    assert path.exists()


def test_a_damaged_record_of_a_session_is_named(out: Path) -> None:
    path = out / ".wsrec" / "20261127T000000Z-1e57ed" / "session.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"format_version": FORMAT_VERSION, "job": {}}))
    status, output = stated(recover, out)
    assert (status, f"{path}: it is damaged (" in output) == (1, True), output


@pytest.mark.parametrize("key", [b"wsrec.format_version", b"wsrec.journal_version"])
def test_a_journal_is_left_where_it_is(out: Path, monkeypatch: pytest.MonkeyPatch, key: bytes) -> None:
    path = out / ".wsrec" / "20261127T000000Z-1e57ed" / "journal-000001.arrows"
    path.parent.mkdir()
    monkeypatch.setattr(journal_module, "FORMAT_VERSION", 4)
    monkeypatch.setattr(journal_module, "VERSION_KEY", key)
    Journal(path, 1, b'{"session": "s"}').close()
    monkeypatch.undo()
    says = SAYS if b"format" in key else "it has no format version, as before version 5"
    for command in (verify, recover):
        status, output = stated(command, out)
        assert (status, f"{path.name}: {says}" in output) == (66, True), output
        assert "run `wsrec recover" not in output
    assert path.exists()


def _manifest_of_version_4(out: Path) -> Path:
    path = out / ".wsrec" / "manifest.jsonl"
    path.write_text(
        "".join(json.dumps({**json.loads(line), "format_version": 4}) + "\n" for line in path.read_text().splitlines())
    )
    return path


def _record_of_version_4(out: Path) -> Path:
    path = out / ".wsrec" / "20261127T000000Z-1e57ed" / "session.json"
    path.parent.mkdir()
    path.write_bytes(b'{"format_version":4,"job":{}}')
    return path


def _journal_of_version_4(out: Path) -> Path:
    path = out / ".wsrec" / "20261127T000000Z-1e57ed" / "journal-000001.arrows"
    path.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "FORMAT_VERSION", 4)
        Journal(path, 1, b'{"session": "s"}').close()
    return path


@pytest.mark.parametrize("earlier_of", [_manifest_of_version_4, _record_of_version_4, _journal_of_version_4])
@pytest.mark.parametrize("more", [(), ("--takeover",)], ids=["free", "takeover"])
def test_nothing_is_recorded_into_a_folder_of_another_version(
    wsrec: Wsrec, out: Path, earlier_of: Callable[[Path], Path], more: tuple[str, ...]
) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name not in locks}

    # those of the recorder that is being replaced
    locks = ("lock", "next") if more else ()
    path, before = earlier_of(out), content()
    with OutputLock(out) if more else contextlib.nullcontext():
        command = ("record", "ws://127.0.0.1:1/", "--duration", "1s", "--out", out, "--json", *more)
        result = wsrec.run(*command, timeout=60)
    reported = json.loads(result.stdout)
    assert (result.returncode, reported["status"]) == (66, 66), result.stderr
    where = f"{path}:1" if path.suffix == ".jsonl" else str(path)
    assert f"{where}: {SAYS}" in reported["error"]
    assert "--out" in reported["error"]
    assert reported["error"] in result.stderr
    assert content() == before


@pytest.mark.parametrize("command", [verify, report, replay, recover])
def test_a_path_that_does_not_exist_is_wrong_usage_in_every_command(tmp_path: Path, command: click.Command) -> None:
    nowhere = str(tmp_path / "nowhere")
    result = CliRunner().invoke(command, [nowhere, "--json"])
    reported = json.loads(result.stdout)
    assert (result.exit_code, reported["status"]) == (2, 2)
    assert nowhere in reported["error"]
    assert nowhere in result.stderr
