"""What `wsrec --version` prints: the version, and what else a report of an error has to say of the installation."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from wsrec.version import __version__, commit, full_version

COMPILED = (
    "wsrec.bench._limits",
    "wsrec.client._consumer",
    "wsrec.decode._fields",
    "wsrec.decode._table_rows",
    "wsrec.feed._protobuf",
    "wsrec.format._grouped",
    "wsrec.host._clock",
    "wsrec.order_books._book",
    "wsrec.receive._hotpath",
    "wsrec.segments._capture",
    "wsrec.tls._records",
    "wsrec.writer._gather",
    "wsrec.writer._stamping",
)
"""The modules that a build compiles (`pyproject.toml`)."""


def about() -> str:
    """A line for wsrec, and one for what it runs on."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"wsrec {full_version()}\n{_implementation()}, {python}, pyarrow {_pyarrow()}"


def about_json() -> str:
    """The same as one JSON object."""
    found = commit()
    values: dict[str, Any] = {
        "version": __version__,
        "commit": found.name if found else None,
        "changed": found.changed if found else None,
        "implementation": _implementation(),
        "python": platform.python_version(),
        "pyarrow": _pyarrow(),
    }
    return json.dumps(values, separators=(",", ":"))


def _implementation() -> str:
    if os.environ.get("WSREC_PURE"):
        return "Python (WSREC_PURE is set)"
    missing = [name.rpartition("._")[2] for name in COMPILED if find_spec(name) is None]
    if not missing:
        return "compiled"
    return "Python" if len(missing) == len(COMPILED) else f"compiled without {', '.join(missing)}"


def _pyarrow() -> str:
    # its own module takes long to import
    try:
        return version("pyarrow")
    except PackageNotFoundError:
        return "missing"
