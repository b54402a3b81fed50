"""The programs of docs/how-to/engine.md: captures and exported tables in Spark, Iceberg and Delta."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.capture_files import Capture, message_columns
from tests.spark_cluster import require_spark

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "engine.md").read_text()
RAW, EXPORTED, ICEBERG, DELTA = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
ROWS, FILES = 50, 3
# why the page has a setting
BY_DEFAULT = """
spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "false")
try:
    refused = str(spark.read.parquet("captures/messages").count())
except Exception as error:
    refused = str(error)
"""
RECV_TIME = 1_795_352_400_006_799_123

# longer than a program of ours may take in a test of each day, and they need half a gigabyte of other software
pytestmark = pytest.mark.long


def _trade(number: int) -> str:
    trade = {"e": "trade", "E": 1795352400123, "s": "BTCUSDT", "t": number, "p": "60000.1", "q": "0.5", "m": True}
    return json.dumps({"stream": "btcusdt@trade", "data": {**trade, "T": 1795352400123}})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a capture, and its trades in µs and in ns."""
    folder = tmp_path_factory.mktemp("lakes")
    capture = Capture(folder / "captures")
    for file in range(FILES):
        columns = message_columns(ROWS, seed=file, first_seq=file * ROWS)
        columns |= {"channel": ["trade"] * ROWS, "text": [_trade(file * ROWS + row) for row in range(ROWS)]}
        columns["recv_time"][0] = RECV_TIME
        capture.write(columns)
    export = importlib.import_module("wsrec.cli.export").export
    for unit, out in (("us", "tables"), ("ns", "in-ns")):
        words = [folder / "captures", "--tables", "trades", "--time", unit, "--out", folder / out]
        assert CliRunner().invoke(export, [*map(str, words)]).exit_code == 0
    return folder


def found(program: str, last: str, place: Path) -> Any:
    """What a program of the page comes to: the value of an expression behind it."""
    conf = place / "conf"
    conf.mkdir(exist_ok=True)
    (conf / "spark-defaults.conf").write_text(
        "spark.master local[1]\nspark.ui.enabled false\nspark.driver.memory 512m\n"
    )
    environment = {**os.environ, "SPARK_CONF_DIR": str(conf), "SPARK_LOCAL_IP": "127.0.0.1"}
    code = f"{program}\nimport json\nprint(json.dumps({last}, default=str))\n"
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]
    result = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def _require(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install '{package}'")


def test_in_spark(place: Path) -> None:
    require_spark()
    exact = f"[messages.count(), messages.where('recv_time = {RECV_TIME}').count(), len(busiest.take(5))]"
    typed = "[dict(trades.dtypes)['recv_time'], trades.count(), [row['sum(size)'] for row in hourly.collect()]]"
    program = f"{RAW}\nof_raw = {exact}\n{BY_DEFAULT}\nspark.stop()\n{EXPORTED}"
    of_raw, refused, of_exported = found(program, f"[of_raw, refused, {typed}]", place)
    assert of_raw == [ROWS * FILES, FILES, 5]
    assert of_exported == ["timestamp", ROWS * FILES, [ROWS * FILES * 0.5]]
    refusal = re.search(r"`(PARQUET_TYPE_ILLEGAL) \.\.\. (.+?)`", PAGE)
    assert refusal is not None
    assert all(part in refused for part in refusal.groups())


def test_in_iceberg(place: Path) -> None:
    _require("pyiceberg", "pyiceberg[sql-sqlite]")
    cut = f"sum(time.microsecond == {RECV_TIME // 1000 % 10**6} for time in trades['recv_time'].to_pylist())"
    last = f"[trades.num_rows, str(trades.schema.field('recv_time').type), {cut}]"
    assert found(ICEBERG, last, place) == [ROWS * FILES, "timestamp[us, tz=UTC]", FILES]


def test_in_delta(place: Path) -> None:
    _require("deltalake", "deltalake")
    last = "[trades.num_rows, str(trades.schema.field('recv_time').type), 'recv_time_ns' in trades.column_names]"
    assert found(DELTA, last, place) == [ROWS * FILES, "timestamp[us, tz=UTC]", False]
    in_ns = DELTA.replace("tables/table=trades", "in-ns/table=trades").replace("delta/trades", "delta/exact")
    exact = f"[trades.num_rows, trades['recv_time_ns'].to_pylist().count({RECV_TIME})]"
    assert found(in_ns, exact, place) == [ROWS * FILES, FILES]
