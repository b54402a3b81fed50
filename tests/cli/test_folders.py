"""An address where a folder belongs: every command refuses it, and makes nothing of it."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", ["s3:", "a:b", "http:x", "s3:/x"])
def test_a_colon_alone_is_a_name(run, name):
    """No such folder, as any other that is not there: the name itself is fine."""
    status, stated = run("verify", name)
    assert status == 2
    assert "does not exist" in stated
