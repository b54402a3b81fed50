"""Whether what a page names is there: paths, modules and their members, tests. Nothing is imported for it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
WSREC = ROOT / "wsrec"
ROOMS = frozenset(path.stem for path in WSREC.iterdir() if path.is_dir() or path.suffix == ".py")
_DIFFS = re.compile(r"^```diff\n(.*?)^```", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_PATH = re.compile(r"(?:wsrec|tests|scripts|docs|configs|\.ci)/[\w./*-]*(?:::[\w:]+)?|[A-Za-z.]+\.(?:md|toml)")
_COMPILED = r"^\s*(?:cdef|cpdef|def|class|cdef class)\b[^=(\n]*\b{}\b"


def spans(text: str) -> Iterator[str]:
    """What stands in backquotes in a page, outside its examples."""
    yield from _SPAN.findall(_FENCED.sub("", text))


def missing(text: str) -> list[str]:
    """What the page names of the project and is not there."""
    return [span for span in dict.fromkeys(spans(text)) if not is_there(span)]


def _in_root(name: str) -> str:
    return (ROOT / name).read_text()


def unfitting(text: str, read: Callable[[str], str] = _in_root) -> list[str]:
    """The parts of the page's diffs that do not fit: what each looks for.

    A part fits if its file has a line that begins with its heading (after the second `@@`, if there is one), and
    after it the lines that it shows or removes, in their order. Other lines may come between: a file may change
    beside what a page shows.

    Args:
        text: the page.
        read: the text of a file, by its path in the project.

    """
    found = []
    for diff in _DIFFS.findall(text):
        for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
            head, _, body = part.partition("\n+++ b/")
            name, _, lines = body.partition("\n")
            if head == "/dev/null":
                continue
            for heading, hunk in _hunks(lines):
                rest = iter(read(name).splitlines())
                shown = [line[1:] for line in hunk.splitlines() if line[:1] in (" ", "-")]
                if not (_passes(rest, heading) and all(line in rest for line in shown)):
                    found.append(f"{name}: {[heading, *shown]}")
    return found


def _hunks(lines: str) -> Iterator[tuple[str, str]]:
    """The headings and the lines of the hunks of a file."""
    parts = re.split(r"^@@(.*)\n", lines, flags=re.MULTILINE)
    if parts[0]:
        yield "", parts[0]
    for head, hunk in zip(parts[1::2], parts[2::2], strict=True):
        yield head.rpartition("@@")[2].strip(), hunk


def _passes(lines: Iterator[str], heading: str) -> bool:
    """Read up to the line that begins with a heading; False if there is none."""
    return not heading or any(line.lstrip().startswith(heading) for line in lines)


def is_there(span: str) -> bool:
    """Whether something that a page names is there; True of what is not about the project's files or code."""
    if span.startswith("scripts/"):
        # a command and its arguments
        span = span.split()[0]
    if _PATH.fullmatch(span):
        path, _, test = span.partition("::")
        found = bool(list(ROOT.glob(path))) if "*" in path else (ROOT / path).exists()
        return found and (not test or _has(ROOT / path, test.split("::")))
    if not _DOTTED.fullmatch(span):
        return True
    first, *rest = span.split(".")
    return first not in ROOMS or _resolves(WSREC / first, rest)


def _resolves(place: Path, names: list[str]) -> bool:
    if place.is_dir():
        if names and ((place / names[0]).is_dir() or any(place.glob(f"{names[0]}.py*"))):
            return _resolves(place / names[0], names[1:])
        return _has(place / "__init__.py", names)
    files = [place.with_suffix(ending) for ending in (".py", ".pyx", ".pxd")]
    return any(_has(file, names) for file in files if file.is_file())


def _has(file: Path, names: list[str]) -> bool:
    """Whether a file defines a name, and that one the next, and so on."""
    if not names:
        return file.is_file()
    if file.suffix != ".py":
        return all(re.search(_COMPILED.format(re.escape(name)), file.read_text(), re.MULTILINE) for name in names)
    nodes: list[ast.stmt] = _parsed(file).body
    for name in names:
        inside = _defined(nodes).get(name)
        if inside is None:
            return False
        nodes = inside
    return True


@functools.cache
def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def _defined(nodes: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """The names that statements define, each with the statements in it."""
    found: dict[str, list[ast.stmt]] = {}
    for node in nodes:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node.body
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                found |= {name: [] for name in _of_self(node)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: [] for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {name.asname or name.name: [] for name in node.names}
    return found


def _of_self(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
