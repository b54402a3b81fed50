"""YAML of strangers, feeds' and run configs: what it says, or a complaint with line and key; never a traceback."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples, thinned
from tests.fuzz.corpus import FIXED, malformed
from wsrec.cli.main import main
from wsrec.config.run_config import RunConfig, load_run
from wsrec.feed import document
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import catalogue, load_feed
from wsrec.feed.schema import Feed

RUNS = [
    b"feeds: [binance]\n",
    b"out: x\nrotate: 15m,512MB\ncpu: [2, 3]\nfeeds:\n  - feed: binance\n    symbols: [BTC/USDT]\n"
    b"    channels: trades,book\n",
    b"until: 17:30\nshard: 3/16\nring-size: 8MiB\ntls: auto\nquiet: true\nca-file: ${HOME}/ca.pem\nfeeds:\n"
    b'  - feed: wss://host/p?token=${TOKEN}\n    subscribe: \'{"op":"subscribe"}\'\n  - ./mine.yaml\n',
]
FEEDS = [file.read_bytes() for file in catalogue().values()]


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "mine.yaml"


def read(file: Path, data: bytes) -> Feed | RunConfig | None:
    """What `wsrec record` takes the file for, or None where it was refused as it should be."""
    file.write_bytes(data)
    try:
        return load_run(file) or load_feed(file)
    except ConfigError as error:
        complained(str(error), file)
        return None


def unprefixed(stderr: str) -> str:
    """The lines that a command printed, without its name before each."""
    return re.sub(r"^wsrec [a-z ]+: ", "", stderr.rstrip("\n"), flags=re.MULTILINE)


def complained(text: str, file: Path) -> None:
    """Each line names file, line, and key or column, and what was expected."""
    lines = text.split("\n")
    assert lines
    for line in lines:
        assert re.match(rf"{re.escape(str(file))}:\d+: .", line), line[:300]
        assert line.isprintable(), line[:300]


class TestCorpus:
    @settings(deadline=None, max_examples=examples(150))
    @given(data=malformed(FEEDS))
    def test_feeds(self, file, data):
        read(file, data)

    @settings(deadline=None, max_examples=examples(400))
    @given(data=malformed(RUNS))
    def test_runs(self, file, data):
        read(file, data)

    @settings(deadline=None, max_examples=examples(100))
    @given(st.data())
    def test_a_feed_and_a_run_in_one(self, file, data):
        lines = (RUNS[1] + data.draw(st.sampled_from(FEEDS))[:2000]).split(b"\n")
        read(file, b"\n".join(data.draw(st.lists(st.sampled_from(lines), max_size=12))))

    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=pytest.mark.long) if "MB" in name else name for name in FIXED]
    )
    def test_what_is_wrong_for_everybody(self, file, name):
        assert read(file, FIXED[name]) is None


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
class TestLibyaml:
    """With libyaml, which reads long files, and without it a file says the same, and so does what is wrong with it."""

    @staticmethod
    def both_ways(data: bytes) -> None:
        found = []
        for fast in (yaml.CSafeLoader, None):
            with mock.patch.object(document, "_LIBYAML", fast), mock.patch.object(document, "_LONG", 0):
                try:
                    read = document.parse_document(data, "mine.yaml", "YAML", "schema")
                    found.append((repr(read.keys), read._lines))
                except ConfigError as error:
                    found.append(str(error))
        assert found[0] == found[1]

    @pytest.mark.parametrize("data", [*FEEDS, *RUNS], ids=[*catalogue(), *map(str, range(len(RUNS)))])
    def test_files(self, data):
        self.both_ways(data)

    @pytest.mark.parametrize("name", [name for name in FIXED if "MB" not in name])
    def test_what_is_wrong_for_everybody(self, name):
        self.both_ways(FIXED[name])


class TestCommands:
    @settings(deadline=None, max_examples=examples(40))
    @given(data=malformed([*RUNS[:2], FEEDS[0]]))
    def test_check_says_it_or_finds_no_mistake(self, file, data):
        file.write_bytes(data)
        result = CliRunner().invoke(main, ["feeds", "check", str(file)])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        if result.exit_code == 0:
            assert "no mistakes" in result.stdout
        else:
            assert (result.exit_code, result.stdout) == (2, "")
            complained(unprefixed(result.stderr), file)

    @pytest.mark.parametrize(
        "name", thinned(["deep", "UTF-16", "empty", "NUL", "binary", "10 MB", "a mixture", "huge sizes"], keep=2)
    )
    @pytest.mark.parametrize("command", [["feeds", "check"], ["feeds", "show"], ["feeds", "plan"], ["record"]])
    def test_a_real_process(self, wsrec, tmp_path, command, name):
        path = tmp_path / "mine.yaml"
        path.write_bytes(FIXED[name])
        result = wsrec.run(*command, path, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        complained(unprefixed(result.stderr), path)
        assert list(tmp_path.iterdir()) == [path]
