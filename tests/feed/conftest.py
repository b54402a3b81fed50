"""Real messages, kept beside the project."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def usdm_recording() -> list[bytes]:
    """Every message of the Binance USD-M recording."""
    with gzip.open(_there(DATA / "binance-usdm-btcusdt-20240808.txt.gz")) as file:
        return [line.split(b" ", 1)[1].rstrip(b"\n") for line in file]


@pytest.fixture(scope="session")
def spot_session() -> list[bytes]:
    """What was received in the Binance spot session."""
    with gzip.open(_there(DATA / "sessions" / "binance.txt.gz")) as file:
        return [found[1] for line in file if (found := re.match(rb"[\d.]+: (.*)\n", line))]


@pytest.fixture
def single() -> Callable[[str], bytes]:
    """Reads one of the single Binance messages."""
    return lambda name: _there(DATA / "messages" / "binance" / name).read_bytes()


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    return path
