"""Real messages, kept beside the project, and every way to read fields out of them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from wsrec.decode.columns import FieldColumns
from wsrec.decode.compiled_reader import CompiledFieldReader, Scanner
from wsrec.decode.reader import PythonFieldReader

DATA = Path(__file__).parents[2] / "shared" / "data"
Rows = list[tuple[Any, ...]]


def read(reader: Any, payloads: Sequence[bytes]) -> FieldColumns:
    """What a field reader reads of messages."""
    columns = reader.read(pa.array(payloads, pa.large_binary()), np.ones(len(payloads), np.bool_))
    for column in columns:
        column.validate(full=True)
    return columns


def rows(columns: FieldColumns) -> Rows:
    """Columns as a tuple a message."""
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@pytest.fixture(scope="session", params=["python", "compiled"])
def field_reader(request: pytest.FixtureRequest) -> Any:
    """Every implementation of the field reader."""
    return PythonFieldReader if request.param == "python" else request.getfixturevalue("compiled_reader")


@pytest.fixture(scope="session")
def compiled_reader() -> Any:
    """The compiled field reader."""
    if Scanner is None:
        pytest.skip("the compiled field reader was not built here: no compiler, or no Cython")
    return CompiledFieldReader


@pytest.fixture(scope="session")
def usdm_recording() -> list[bytes]:
    """Every message of the Binance USD-M recording."""
    with gzip.open(_there(DATA / "binance-usdm-btcusdt-20240808.txt.gz")) as file:
        return [line.split(b" ", 1)[1].rstrip(b"\n") for line in file]


@pytest.fixture(scope="session")
def spot_session() -> list[bytes]:
    """What was received in the Binance spot session."""
    return _session(_there(DATA / "sessions" / "binance.txt.gz"))


@pytest.fixture(scope="session")
def other_exchanges() -> list[bytes]:
    """Messages of many exchanges: the single ones, as their keepers pretty-print them, and some of each session."""
    single = [file.read_bytes() for file in sorted(_there(DATA / "messages").rglob("*.json"))]
    return single + [text for file in sorted((DATA / "sessions").glob("*.txt.gz")) for text in _session(file)[:50]]


@pytest.fixture
def single() -> Callable[[str], bytes]:
    """Reads one of the single Binance messages."""
    return lambda name: _there(DATA / "messages" / "binance" / name).read_bytes()


def _session(file: Path) -> list[bytes]:
    with gzip.open(file) as lines:
        return [found[1] for line in lines if (found := re.match(rb"[\d.]+: (.*)\n", line))]


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    return path
