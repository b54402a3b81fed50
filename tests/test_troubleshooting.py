"""docs/troubleshooting.md: what it quotes is what the code says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
QUOTED = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)


def literals() -> Iterator[str]:
    """Every text in the code, with … for what is filled in."""
    for file in sorted((ROOT / "wsrec").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def is_said(message: str, texts: list[str]) -> bool:
    """Whether a text has the parts of a message in their order."""
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
    return any(pattern.search(text) for text in texts)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(literals())


def test_there_are_some(texts: list[str]):
    assert len(QUOTED) > 40
    assert not is_said("no connection was ajar within …", texts)


@pytest.mark.parametrize("message", QUOTED)
def test_it_is_said(message: str, texts: list[str]):
    assert is_said(message, texts)
