"""One mistake has one exit status, in whichever command it is made: the table of docs/reference/exit-status.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.capture_files import Capture, message_columns
from wsrec.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-status.md"
NOBODY = 65534

# one word each; {} is what the mistake is about
FILES = ("report {}", "verify {}", "export {} --out OUT", "sql {} SELECT", "book {}", "replay {}")
FOLDERS = ("recover {}", "compact {}", "status {}")
EVERY = (*FILES, *FOLDERS)

MISTAKES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    # what the docs call it: what {} is, status, commands
    "a path that does not exist": (
        "none",
        2,
        (*EVERY, "record {}.yaml", "feeds check {}.yaml", "report x --against {}"),
    ),
    "an option that there is not": (
        "--bogus",
        2,
        (
            *(command.replace("{}", "capture {}") for command in EVERY),
            *(
                f"{command} {{}}"
                for command in ("record demo", "feeds show binance", "feeds plan binance", "feeds list")
            ),
            *(
                f"{command} {{}}"
                for command in ("feeds check x", "feeds new x", "completion show bash", "doctor", "bench")
            ),
        ),
    ),
    "a value that an option cannot have": (
        "?",
        2,
        (
            "report capture --since {}",
            "export capture --format {}",
            "export capture --tables {}",
            "book capture --levels {}",
            "sql capture SELECT --format {}",
            "verify capture --jobs {}",
            "verify capture --format {}",
            "recover capture --format {}",
            "compact capture --keep {}",
            "status capture --format {}",
            "replay capture --speed {}",
            "record demo --rotate {}",
            "feeds plan binance --shard {}",
            "completion show {}",
            "doctor --cpu {}",
            "bench {}",
        ),
    ),
    "a feed that there is not": ("binanse", 2, ("record {}", "feeds show {}", "feeds plan {}", "feeds check {}")),
    "a channel that the feed does not have": (
        "depht",
        2,
        (
            "record binance --symbols BTCUSDT --channels {}",
            "feeds plan binance --symbols BTCUSDT --channels {}",
            "report capture --channel {}",
            "export capture --out OUT --channels {}",
            "book capture --channel {}",
        ),
    ),
    "a symbol of which the capture has no message": (
        "BTCUSDC",
        3,
        (
            "report capture --symbol {}",
            "export capture --out OUT --symbols {}",
            "export capture --out OUT --to hftbacktest --symbols {}",
            "book capture --symbol {}",
        ),
    ),
    "a folder without a capture, or an empty one": ("empty", 3, EVERY),
    "a file that is not Parquet": ("text.parquet", 1, FILES),
    "a file where a folder is expected, or a folder where a file is": (
        "text.parquet",
        2,
        (
            *FOLDERS,
            "record demo --out {}",
            "export capture --out {}",
            "report capture --figures {}",
            "report capture --html empty",
            "book capture --out empty",
            "sql capture SELECT --format csv --out empty",
        ),
    ),
    "a folder or file that may not be read": ("locked", 66, EVERY),
    "files of another version of the format": (
        "newer",
        66,
        tuple(command for command in FILES if "verify" not in command),
    ),
    "a manifest of another version of the format": (
        "managed",
        66,
        ("verify {}", "recover {}", "compact {}", "record demo --out {}"),
    ),
    "an output that cannot be written": (
        "text.parquet/x",
        66,
        (
            "report capture --html {}",
            "report capture --figures {}",
            "export capture --out {}",
            "export capture --to hftbacktest --symbols BTCUSDT --out {}",
            "sql capture SELECT --format csv --out {}",
            "book capture --channel depth --out {}",
            "replay demo --tls-self-signed --ca-out {}",
            "feeds new x --out {}",
            "bench --json {}",
        ),
    ),
}
# need a process each: test_stdout.py, test_interrupted.py
ELSEWHERE = {"standard output that cannot be written": 74, "interrupted": 130}

CASES = [
    pytest.param(command, what, status, id=f"{name}-{command}")
    for name, (what, status, commands) in MISTAKES.items()
    for command in commands
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A capture and what is none, where another user may look."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    Capture(path / "capture").write(message_columns(60))
    Capture(path / "newer").write(message_columns(60), format_version=99)
    (path / "managed" / ".wsrec").mkdir(parents=True)
    (path / "managed" / ".wsrec" / "manifest.jsonl").write_text(json.dumps({"format_version": 99}) + "\n")
    (path / "empty" / "sub").mkdir(parents=True)
    (path / "text.parquet").write_text("a text of some length, not Parquet\n")
    (path / "locked").mkdir(mode=0)
    yield path
    shutil.rmtree(path)


def run(command: str, what: str) -> Result:
    words = [{"SELECT": "select count(*) from trades"}.get(word, word) for word in command.format(what).split()]
    return CliRunner().invoke(main, words)


@pytest.fixture(autouse=True)
def _there(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(("command", "what", "status"), CASES)
def test_one_status(command: str, what: str, status: int, tmp_path: Path):
    root = what == "locked" and os.geteuid() == 0
    if root:
        # imported before, as another user may not see where wsrec is
        run(command, "empty")
        os.seteuid(NOBODY)
    try:
        result = run(command.replace("OUT", str(tmp_path / "out")), what)
    finally:
        if root:
            os.seteuid(0)
    assert result.exit_code == status, result.output
    assert "Traceback" not in result.output
    assert result.output.strip()


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("report capture --channel depht", "depth"),
        ("export capture --out OUT --channels depht", "depth"),
        ("book capture --channel aggtrade", "aggTrade"),
        ("report capture --symbol BTCUSDC", "BTCUSDT"),
        ("book capture --symbol BTCUSDC", "BTCUSDT"),
        ("export capture --out OUT --tables tradez", "trades"),
    ],
)
def test_the_near_word(command: str, meant: str, tmp_path: Path):
    assert f"did you mean `{meant}`?" in run(command.replace("OUT", str(tmp_path)), "").stderr


@pytest.mark.parametrize("to", ["", " --to hftbacktest"])
def test_an_export_of_nothing_is_one_object(to: str, tmp_path: Path):
    result = run(f"export capture --json --out {tmp_path / 'out'} --symbols BTCUSDC{to}", "")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["nothing_of"]
    assert "no message makes a row" in result.stderr


@pytest.mark.parametrize("command", ["report {}", "export {} --out OUT", "sql {} SELECT"])
def test_files_of_this_version_under_a_manifest_of_another(command: str, folder: Path, tmp_path: Path):
    shutil.copytree(folder / "capture", tmp_path / "both")
    shutil.copytree(folder / "managed" / ".wsrec", tmp_path / "both" / ".wsrec")
    result = run(command.replace("OUT", str(tmp_path / "out")), str(tmp_path / "both"))
    assert result.exit_code == 0, result.output


def test_the_page_has_them_all():
    section = PAGE.read_text().partition("## One mistake, one status")[2].partition("\n## ")[0]
    rows = {name: int(status) for name, status in re.findall(r"^\| ([^|]+) \| (\d+) \|$", section, re.MULTILINE)}
    assert rows == {name: status for name, (_, status, _) in MISTAKES.items()} | ELSEWHERE
