"""The HTML report: one file that opens offline, with its style, its program, the plotting library and the data in it.

The page fetches nothing, and its Content-Security-Policy forbids it to: only the two programs in it run, by their
hashes. What an exchange sent is in it as JSON in which no tag can begin.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import html
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from wsrec.format.folders import replaceable
from wsrec.pictures.model import Pictures
from wsrec.pictures.page_data import capture_data
from wsrec.tables.whole_file import whole_file
from wsrec.units import clean
from wsrec.version import __version__

MOST_BYTES = 5_000_000
"""No page is larger: of captures of many feeds, those with fewest messages get no figures then."""

# in the order in which they run
_PROGRAM = (
    *("format.js", "data.js", "colors.js", "tables.js", "plots.js"),
    *("latency.js", "curves.js", "traffic.js", "events.js", "compare.js", "page.js"),
)
# of JSON in a script element: what could end it, begin a comment, or be a line's end to older browsers
_ESCAPED = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"}


def check_page(path: Path) -> None:
    """Whether a page can be written there, for who wants to know before collecting what is to be in it.

    Raises:
        OSError: its folder cannot be written to, or what is there is a pipe, a device, a folder or no HTML page.

    """
    if replaceable(path).exists():
        with path.open("rb") as file:
            start = file.read(64).lstrip().lower()
        # a message file of the capture, for example
        if start and not start.startswith(b"<!doctype html"):
            raise OSError(errno.EINVAL, "it is no HTML page, and is not replaced; give another name", str(path))
    folder = path.absolute().parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def write_page(captures: Sequence[Pictures], path: Path) -> int:
    """Write the page of a capture, or of two that are compared; a file of its name is replaced. Returns its bytes.

    Raises:
        BlockingIOError: another process is writing it.
        OSError: as of `check_page`, or it cannot be written.

    """
    check_page(path)
    content = page(captures).encode()
    with whole_file(path) as unfinished:
        unfinished.write_bytes(content)
    return len(content)


def page(captures: Sequence[Pictures]) -> str:
    """The page of a capture, or of two that are compared (the first of them is A)."""
    drawn = max((len(each.figures) for each in captures), default=0)
    text = _page(captures, drawn)
    if drawn <= 1 or len(text.encode()) <= MOST_BYTES:
        return text
    # how many are drawn: one whatever its size, fewer than did not fit
    fitting, text, too_many = 1, _page(captures, 1), drawn
    while too_many - fitting > 1:
        middle = (fitting + too_many) // 2
        tried = _page(captures, middle)
        if len(tried.encode()) <= MOST_BYTES:
            fitting, text = middle, tried
        else:
            too_many = middle
    return text


def _page(captures: Sequence[Pictures], drawn: int) -> str:
    library = _asset("echarts/echarts.min.js")
    program = "(() => {\n" + '"use strict";\n' + "\n".join(_asset(name) for name in _PROGRAM) + "\n})();"
    data: dict[str, Any] = {"version": __version__, "captures": [capture_data(each, drawn) for each in captures]}
    policy = (
        f"default-src 'none'; script-src {_hash(library)} {_hash(program)}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("page.html")).substitute(
        policy=policy,
        title=html.escape(_title(captures)),
        style=_asset("page.css"),
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_ESCAPED),
        library=library,
        program=program,
    )


def _title(captures: Sequence[Pictures]) -> str:
    names = [clean(", ".join(each.sources), 80) for each in captures]
    return f"wsrec report: {' against '.join(names)}"


def _asset(name: str) -> str:
    return (resources.files("wsrec.pictures") / "assets" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
