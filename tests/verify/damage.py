"""What becomes of files: emptied, cut off, overwritten by another program, a bit that flips, deleted."""

from __future__ import annotations

import random
from pathlib import Path

from wsrec.format.layout import manifest_path


def damage(path: Path, chance: random.Random) -> None:
    """Damage a file, so that not all of it is what was written."""
    data = path.read_bytes()
    kind = chance.choice(["empty", "cut", "foreign", "flipped", "flipped", "gone"])
    if kind == "gone" or not data:
        path.unlink()
        return
    at = chance.randrange(len(data))
    path.write_bytes(
        {
            "empty": b"",
            "cut": data[:at],
            "foreign": b"a letter to my aunt" * 50,
            "flipped": data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :],
        }[kind]
    )


def damage_capture(out: Path, chance: random.Random) -> tuple[set[Path], bool]:
    """Damage files of a capture, or lines of its manifest; the files that cannot be believed, and if anything was."""
    files = sorted(path for kind in ("messages", "events") for path in (out / kind).rglob("*.parquet"))
    hit = set()
    # damage in an unlisted file cannot be located
    pairs: dict[str, bool] = {}
    for path in chance.sample(files, min(chance.choice([1, 1, 2, 3]), len(files))):
        if pairs.setdefault(path.name, chance.random() < 0.8):
            damage(path, chance)
            hit.add(path)
        else:
            _forget_line(out, path, chance)
    return hit, bool(files)


def _forget_line(out: Path, path: Path, chance: random.Random) -> None:
    """Delete the manifest's line of a file, or tear it: nothing vouches for its files, which are read all the same."""
    manifest = manifest_path(out)
    name = str(path.relative_to(out)).encode()
    lines = []
    for line in manifest.read_bytes().splitlines(keepends=True):
        if name not in line:
            lines.append(line)
            continue
        lines += [line[: len(line) // 2] + b"\n"] if chance.random() < 0.5 else []
    manifest.write_bytes(b"".join(lines))
