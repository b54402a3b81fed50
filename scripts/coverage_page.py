"""Coverage by room, as measured by scripts/coverage: printed, checked and written to docs/explanation/coverage.md."""

from __future__ import annotations

import json
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
MEASURED = ("decode", "feed", "format", "http", "monitor", "net", "plan", "report", "ring", "wire")
PAGE = ROOT / "docs" / "explanation" / "coverage.md"
HEAD = """\
# Line coverage

Written by `scripts/coverage --publish`. It runs the tests of these rooms alone, in two shares: Python by those of the
rooms themselves (rooms that are tested through whole recordings are not measured), Cython by those of the compiled
modules. CI fails below {python} % of Python and {cython} % of Cython.

"""


def rooms(report: Path) -> dict[str, tuple[int, int]]:
    """Lines and lines run of each room."""
    found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for name, file in json.loads(report.read_text())["files"].items():
        path = Path(name)
        if "wsrec" not in path.parts:
            continue
        parts = path.parts[path.parts.index("wsrec") : -1]
        if path.suffix == ".py" and parts[1:2] not in [(room,) for room in MEASURED]:
            continue
        room = path.name if path.suffix == ".pyx" else "/".join(parts[:2])
        lines, run = found[room]
        summary = file["summary"]
        found[room] = lines + summary["num_statements"], run + summary["covered_lines"]
    return dict(sorted(found.items()))


def percent(lines: int, run: int) -> float:
    """Of what is not there all was run."""
    return 100 * run / lines if lines else 100.0


def table(found: dict[str, tuple[int, int]], what: str) -> str:
    """A row a room, the last of all together."""
    total = tuple(map(sum, zip(*found.values(), strict=True)))
    rows = [f"| {what} | lines | run | % |", "| --- | --: | --: | --: |"]
    for name, (lines, run) in {**found, "together": total}.items():
        rows.append(f"| {name} | {lines:,} | {run:,} | {percent(lines, run):.1f} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    """Arguments: of-python.json and of-cython.json; --publish."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["wsrec"]["coverage"]
    reports = [Path(name) for name in sys.argv[1:] if name != "--publish"]
    measured = {report.stem.removeprefix("of-"): rooms(report) for report in reports}
    text = "\n".join(table(found, kind.capitalize()) for kind, found in measured.items())
    print(text)
    if "--publish" in sys.argv:
        PAGE.write_text(HEAD.format(**floors) + text)
    below = False
    for kind, found in measured.items():
        lines, run = map(sum, zip(*found.values(), strict=True))
        if percent(lines, run) < floors[kind]:
            print(f"{kind}: {percent(lines, run):.1f} % is below the floor of {floors[kind]} % (pyproject.toml)")
            below = True
    return below


if __name__ == "__main__":
    raise SystemExit(main())
