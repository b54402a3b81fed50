"""Every block of the pages, in whatever language: it is run, or at least read by what it is for.

Commands are run by test_docs.py; so are programs on `wsrec.connect` and `wsrec.open_capture`. Pages with programs on
data of their own have tests of their own.
"""

from __future__ import annotations

import configparser
import gc
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import yaml

from tests.capture_files import Capture, message_columns
from tests.page_blocks import ELSEWHERE, ROOT, Block, blocks, commands, would_record
from wsrec.cli.main import main
from wsrec.cli.record import record

# what a page shows of a language, and who reads it
LANGUAGES = {"", "console", "crontab", "diff", "ini", "python", "sh", "sql", "yaml"}
# programs that a test of the page's own runs
OWN_TESTS = {
    "docs/how-to/books.md": "tests/order_books/test_books_page.py",
    "docs/how-to/engine.md": "tests/engine/test_lakes.py",
    "docs/how-to/other-tools.md": "tests/other_tools/test_other_tools_page.py",
    "docs/reference/format.md": "tests/format/test_format_page.py",
}
HOST = "/etc/wsrec/run.yaml"


def of(language: str) -> list[Any]:
    """The blocks of a language, as a test's parameters."""
    return [pytest.param(block, id=str(block)) for block in blocks(language)]


def test_every_language_is_read_by_something():
    assert {block.language for block in blocks()} == LANGUAGES


@pytest.mark.parametrize("block", of("sh"))
def test_shell_is_shell(block: Block):
    found = subprocess.run(["sh", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_files_that_commands_name_are_there():
    for page, command in commands():
        for word in shlex.split(command):
            if word.startswith(("scripts/", "docs/", "tests/", "configs/")):
                assert (ROOT / word.partition("::")[0]).exists(), f"{page}: {command}"


def test_what_is_not_run_is_said_of_commands_that_are_there():
    for beginning in ELSEWHERE:
        assert any(command.startswith(beginning) for _, command in commands()), beginning


def programs() -> list[Any]:
    """Those that no other test runs."""
    own = ("wsrec.connect(", "wsrec.open_capture(")
    blocks_of = [block.values[0] for block in of("python")]
    others = [block for block in blocks_of if not any(word in block.text for word in own)]
    return [pytest.param(each, id=str(each)) for each in others if str(each.page.relative_to(ROOT)) not in OWN_TESTS]


@pytest.fixture
def collector() -> Iterator[None]:
    """The garbage collector, which a program may switch off, and keep from all that is there."""
    yield
    if not gc.isenabled():
        gc.enable()
        gc.unfreeze()
        gc.collect()
        gc.freeze()


@pytest.mark.usefixtures("collector")
@pytest.mark.parametrize("block", programs())
def test_programs(block: Block, capture: Capture, monkeypatch: pytest.MonkeyPatch):
    capture.write(message_columns(50))
    (capture.out.parent / "captures").symlink_to(capture.out)
    monkeypatch.chdir(capture.out.parent)
    exec(compile(block.text, str(block), "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("page", "test"), OWN_TESTS.items())
def test_pages_with_programs_have_a_test(page: str, test: str):
    assert "python" in {block.language for block in blocks() if block.page == ROOT / page}
    assert Path(page).name in (ROOT / test).read_text()


@pytest.mark.parametrize("block", of("sql"))
def test_sql(block: Block, capture: Capture, monkeypatch: pytest.MonkeyPatch):
    capture.write(message_columns(50) | {"exchange_seq": [*range(25), *range(25)]})
    (capture.out.parent / "captures").symlink_to(capture.out)
    monkeypatch.chdir(capture.out.parent)
    assert duckdb.sql(block.text).fetchall()


@pytest.mark.parametrize("block", of("yaml"))
def test_yaml_is_yaml(block: Block):
    assert list(yaml.safe_load_all(block.text))


def manifests() -> list[Any]:
    """The manifests of Kubernetes in the pages."""
    return [block for block in of("yaml") if "apiVersion:" in block.values[0].text]


@pytest.mark.parametrize("block", manifests())
def test_a_manifest_records_and_its_names_fit(block: Block, tmp_path: Path):
    spec = yaml.safe_load(block.text)["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert pod["terminationGracePeriodSeconds"] > 1006
    assert container["args"][0] == "record"
    would_record(container["args"][1:], tmp_path)
    taken({each["name"]: each["value"] for each in container["env"]})
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}
        assert f"`{container[probe]['httpGet']['path']}`" in (ROOT / "docs" / "how-to" / "monitoring.md").read_text()


def test_there_is_a_manifest():
    assert manifests()


def taken(variables: dict[str, str]) -> None:
    """Whether `wsrec record` takes these variables."""
    names = {f"WSREC_RECORD_{option.name.upper()}" for option in record.params if option.name}
    assert set(variables) <= names
    parent = click.Context(main, auto_envvar_prefix="WSREC")
    with pytest.MonkeyPatch.context() as environment, parent:
        for name, value in variables.items():
            environment.setenv(name, value)
        record.make_context("record", ["binance"], parent=parent)


@pytest.mark.parametrize("block", of("ini"))
def test_units_and_their_variables(block: Block, tmp_path: Path):
    if "[" not in block.text.splitlines()[0]:
        taken(dict(line.split("=", 1) for line in block.text.splitlines() if line and line[0] != "#"))
        return
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read_string(block.text)
    starts = re.findall(r"^ExecStart=(?:\S*/)?wsrec record (.+)$", block.text, re.MULTILINE)
    for words in starts:
        (tmp_path / "run.yaml").write_text("out: captures\nfeeds: [binance]\n")
        would_record(shlex.split(words.replace(HOST, "run.yaml").replace("%i", "binance")), tmp_path)


@pytest.mark.parametrize("block", of("crontab"))
def test_crontabs(block: Block, tmp_path: Path):
    (tmp_path / "run.yaml").write_text("out: captures\nfeeds: [binance]\n")
    for line in block.text.splitlines():
        if not line or line[0] == "#" or re.match(r"\w+=", line):
            continue
        assert re.match(r"(@\w+ +)|(([\d*,/-]+ +){5})", line), line
        words = shlex.split(line.split(None, 1 if line[0] == "@" else 5)[-1].replace(HOST, "run.yaml"), comments=True)
        if words[:2] == ["wsrec", "record"]:
            would_record(words[2:], tmp_path)
        else:
            assert words[0] == "wsrec"
            assert words[1] in main.list_commands(click.Context(main))
