"""The manifest: one JSON line per finished file, appended and synced before the file's journal is deleted."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from wsrec.counts import Counts
from wsrec.format.errors import OtherVersionError
from wsrec.format.folders import read_file, regular, sync_folder
from wsrec.format.layout import manifest_path
from wsrec.format.ledger import Ledger
from wsrec.format.stored_json import decode_stored
from wsrec.format.version import FORMAT_VERSION


class ManifestLine(Counts, frozen=True, kw_only=True):
    """One finished pair of files, with its counts (`wsrec.counts`).

    A later line of the same pair takes the place of an earlier one: its message file was sorted, or both were removed.

    Attributes:
        path: the message file, relative to the output folder; null if no message arrived.
        events_path: its events file.
        session, feed, number: of the pair; the journal of this session and number is no longer needed.
        rows, events: number of rows in each file.
        bytes: size of the message file.
        sha256, events_sha256: of the files' bytes.
        first_seq, last_seq: of the message file's rows.
        first_time, last_time: `recv_time` (ns since the epoch) of its first and last row.
        format_version: version of the format (`wsrec.format.version`).
        gaps_checked: whether the feed declares a rule or a checksum that reveals gaps.
        ledger: the ledger of the file.
        replaces: SHA-256 of the message file that had the same rows before they were sorted; null: as recorded.
        removed: when the pair was removed on purpose (ns since the epoch); null: it is there.

    """

    path: str | None
    events_path: str | None
    session: str
    feed: str
    number: int
    rows: int
    events: int
    bytes: int
    sha256: str | None
    events_sha256: str | None
    first_seq: int | None
    last_seq: int | None
    first_time: int | None
    last_time: int | None
    gaps_checked: bool
    ledger: Ledger
    format_version: int
    replaces: str | None = None
    removed: int | None = None

    @property
    def pair(self) -> tuple[str, str, int]:
        """The key of the pair: feed, session and number."""
        return self.feed, self.session, self.number

    @property
    def is_recorded(self) -> bool:
        """Whether the line is of a recording, not of `wsrec compact`."""
        return self.replaces is None and self.removed is None

    def follows(self, earlier: Iterable[ManifestLine]) -> bool:
        """Whether this line takes the place of these earlier ones of its pair."""
        if self.removed is not None:
            return all(line.removed is None for line in earlier)
        return self.replaces is not None and any(line.sha256 == self.replaces for line in earlier)


class _Versioned(msgspec.Struct):
    """The fields that identify a line's version; earlier lines had no version, but did have the others."""

    format_version: int | str | None = None
    session: str | None = None
    sha256: str | None = ""


def decode_line(text: bytes, path: Path, number: int) -> ManifestLine:
    """Decode a line of the manifest.

    Args:
        text: the line.
        path, number: the manifest and the line's number, for errors.

    Raises:
        OtherVersionError: it has another version of the format.
        msgspec.ValidationError: it is JSON, but not a line of this version; the message names the line.
        msgspec.DecodeError: it is not JSON.

    """
    try:
        _check_version(text, path, number)
        return decode_stored(text, ManifestLine)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{path}:{number}: is not a valid line: {error}") from error


def _check_version(text: bytes, path: Path, number: int) -> None:
    stated = decode_stored(text, _Versioned)
    if stated.format_version is None and stated.session is not None and stated.sha256 != "":
        raise OtherVersionError(path, None, number)
    if stated.format_version not in (None, FORMAT_VERSION):
        raise OtherVersionError(path, stated.format_version, number)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, as the manifest has it.

    Raises:
        OSError: it cannot be read.

    """
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listed_as(out: Path, known: ManifestLine, digest: str) -> ManifestLine | None:
    """The line of a pair whose message file has this SHA-256, among those that took the place of one another.

    Args:
        out: the output folder.
        known: a line of the pair.
        digest: SHA-256 of the file.

    Raises:
        OSError: the manifest cannot be read.

    """
    chain = chains(out).get(known.pair, [])
    return next((line for line in reversed(chain) if line.sha256 == digest and line.path == known.path), None)


def chains(out: Path) -> dict[tuple[str, str, int], list[ManifestLine]]:
    """The lines of each pair, each of which took the place of the one before; lines that cannot be read are left out.

    Raises:
        OSError: the manifest cannot be read.

    """
    path = manifest_path(out)
    found: dict[tuple[str, str, int], list[ManifestLine]] = {}
    for number, text in enumerate(read_file(path).split(b"\n")[:-1], 1):
        with contextlib.suppress(msgspec.DecodeError, OtherVersionError):
            line = decode_line(text, path, number)
            chain = found.setdefault(line.pair, [])
            if not chain or line.follows(chain):
                chain.append(line)
    return found


def names_by_digest(out: Path) -> dict[str, str]:
    """The paths of the files that the manifest lists, by their SHA-256; lines that cannot be read are left out.

    Raises:
        OSError: it cannot be read.

    """
    names: dict[str, str] = {}
    path = manifest_path(out)
    for number, text in enumerate(read_file(path).split(b"\n"), 1):
        with contextlib.suppress(msgspec.DecodeError, OtherVersionError):
            line = decode_line(text, path, number)
            both = (line.sha256, line.path), (line.events_sha256, line.events_path)
            names.update((digest, name) for digest, name in both if digest is not None and name is not None)
    return names


def check_versions(out: Path) -> None:
    """Make sure that no line is of another version; damaged lines and an unfinished last one state none.

    Raises:
        OSError: it cannot be read.
        OtherVersionError: a line has another version of the format.

    """
    path = manifest_path(out)
    if not path.exists():
        return
    for number, text in enumerate(read_file(path).split(b"\n")[:-1], 1):
        with contextlib.suppress(msgspec.DecodeError):
            _check_version(text, path, number)


def append(out: Path, line: ManifestLine) -> None:
    """Append a line durably. Several writers may do so at once: each line is a single O_APPEND write.

    After an error, a repeated call appends the line again, since a line that could not be synced may be lost.

    Raises:
        OSError: it cannot be written.

    """
    path = manifest_path(out)
    # do not follow a symbolic link that others may have put there
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        data = msgspec.json.encode(line) + b"\n"
        size = os.fstat(fd).st_size
        if not size:
            sync_folder(path.parent)
        if size and os.pread(fd, 1, size - 1) != b"\n":
            # a crash truncated the last line; this one must not be joined to it
            data = b"\n" + data
        if os.write(fd, data) != len(data):
            raise OSError(f"{path}: the disk accepted only a part of a line")
        os.fsync(fd)
    finally:
        os.close(fd)


def read(out: Path) -> list[ManifestLine]:
    """The lines of an output folder's manifest without duplicates; a line truncated by a crash is ignored.

    Raises:
        OSError: it cannot be read.
        OtherVersionError: a line has another version of the format.
        msgspec.ValidationError: a line is JSON, but not of this version; the message names it.

    """
    path = manifest_path(out)
    if not path.exists():
        return []
    lines = []
    seen: set[bytes] = set()
    for number, data in enumerate(read_file(path).split(b"\n")[:-1], 1):
        if data in seen:
            continue
        seen.add(data)
        try:
            lines.append(decode_line(data, path, number))
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            # truncated by a crash before its journal was deleted: its files are recovered from there
            continue
    return lines
