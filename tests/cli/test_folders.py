"""An address where a folder belongs, and a folder without a capture: every command refuses them in the same way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from wsrec.cli.main import main

ADDRESSES = ("s3://bucket/x", "gs://bucket", "HDFS://node:8020/x", "file:///tmp/x", "abfs+x.y-1://a@b/c")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs wsrec in an empty folder; returns the exit status and the text on stderr."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments, **environment):
        result = CliRunner().invoke(main, arguments, env=environment)
        assert list(tmp_path.iterdir()) == [], "something was made"
        return result.exit_code, result.stderr

    return start


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "words",
    [
        ("record", "ws://localhost:9/x", "--duration", "1s", "--out"),
        ("recover",),
        ("report",),
        ("verify",),
        ("replay",),
    ],
    ids=lambda words: words[0],
)
def test_an_address_is_wrong_usage(run, words, address):
    status, stated = run(*words, address)
    assert status == 2
    assert address.replace("a@", "") in stated
    assert "a@" not in stated
    assert "expected a local folder" in " ".join(stated.split())


def test_out_of_the_environment_too(run):
    status, stated = run("record", "ws://localhost:9/x", "--duration", "1s", WSREC_RECORD_OUT="s3://bucket/x")
    assert (status, "s3://bucket/x" in stated) == (2, True)


def test_a_run_config_names_the_line(tmp_path, monkeypatch):
    config = tmp_path / "run.yaml"
    config.write_text("feeds: [demo]\nout: s3://bucket/x\nduration: 1s\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["record", "run.yaml"])
    assert result.exit_code == 2
    assert "run.yaml:2: out: found 's3://bucket/x', expected a local folder" in result.stderr
    assert list(tmp_path.iterdir()) == [config]


NO_CAPTURE = "holds no capture; name an output folder of `wsrec record`, or a file or folder in one"
READING = ("verify", "report", "recover", "replay")


@pytest.mark.parametrize("command", READING)
def test_a_folder_without_a_capture(tmp_path: Path, command):
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "empty" / "notes.txt").write_text("x")
    result = CliRunner().invoke(main, [command, str(tmp_path / "empty")])
    assert result.exit_code == 3
    (line,) = [line for line in result.output.splitlines() if NO_CAPTURE in line]
    assert line.removeprefix(f"wsrec {command}: ").removeprefix("note ") == f"{tmp_path}/empty: {NO_CAPTURE}"


@pytest.mark.parametrize("command", ["report", "replay"])
def test_a_capture_without_a_finished_file(tmp_path: Path, command):
    session = tmp_path / ".wsrec" / "s"
    session.mkdir(parents=True)
    (session / "journal-000001.arrows").write_bytes(b"")
    result = CliRunner().invoke(main, [command, str(tmp_path)])
    assert result.exit_code == 3
    expected = "holds no finished file yet: a recording is in progress there or was interrupted; "
    assert result.stderr.startswith(f"wsrec {command}: {tmp_path}: {expected}")


@pytest.mark.parametrize("command", ["report", "replay"])
def test_a_capture_into_which_nothing_was_recorded(tmp_path: Path, command):
    (tmp_path / ".wsrec").mkdir()
    result = CliRunner().invoke(main, [command, str(tmp_path)])
    assert (result.exit_code, result.stderr) == (3, f"wsrec {command}: {tmp_path}: holds a capture without messages\n")


def test_the_folder_of_messages_is_not_what_is_recovered(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    result = CliRunner().invoke(main, ["recover", str(tmp_path)])
    assert result.exit_code == 2
    assert "it has no .wsrec, where the journals are; name the output folder itself" in result.stderr


def test_a_folder_without_a_capture_beside_others(tmp_path: Path):
    """The others are read; the status says that one is missing."""
    capture, empty = tmp_path / "capture", tmp_path / "empty"
    empty.mkdir()
    command = ["record", "demo", "--quiet", "--duration", "0.3s", "--out", str(capture)]
    subprocess.run([sys.executable, "-P", "-m", "wsrec", *command], check=True, timeout=60)
    for name, words in (("verify", "holds: nothing damaged"), ("report", "no loss known")):
        result = CliRunner().invoke(main, [name, str(capture), str(empty)])
        assert (result.exit_code, words in result.stdout) == (3, True)


@pytest.mark.parametrize("name", ["s3:", "a:b", "http:x", "s3:/x"])
def test_a_colon_alone_is_a_name(run, name):
    """No such folder, as any other that is not there: the name itself is fine."""
    status, stated = run("verify", name)
    assert status == 2
    assert "does not exist" in stated
