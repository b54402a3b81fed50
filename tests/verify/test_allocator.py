"""wsrec verify: its process, and its workers, give freed memory back to the system."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from wsrec.engine.choose import engine_for
from wsrec.engine.work import Item
from wsrec.options.engine import EngineOptions

_VERIFY = """
import sys
from wsrec.cli.main import main
try:
    main(["verify", "--again", "--quiet", sys.argv[1]])
except SystemExit:
    # as the command has imported it
    pyarrow = sys.modules["pyarrow"]
    print(pyarrow.default_memory_pool().backend_name)
"""


def backend(_: Item) -> str:
    return pa.default_memory_pool().backend_name


@pytest.fixture(autouse=True)
def _jemalloc(monkeypatch):
    if "jemalloc" not in pa.supported_memory_backends():
        pytest.skip("this pyarrow has no jemalloc")
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL", raising=False)


def test_the_command_itself(out):
    done = subprocess.run([sys.executable, "-c", _VERIFY, str(out)], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["jemalloc"]


def test_a_worker():
    with engine_for(EngineOptions(jobs=2)) as engine:
        assert set(engine.map(backend, [Item(files=(), size=1), Item(files=(), size=1)])) == {"jemalloc"}


def test_who_names_one_gets_it(out, monkeypatch):
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "system")
    done = subprocess.run([sys.executable, "-c", _VERIFY, str(out)], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == ["system"]
