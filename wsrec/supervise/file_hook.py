"""`--on-file`: a command for each finished file, in order and one at a time. No file is left out.

The manifest is the queue: a thread follows it and remembers, in `.wsrec/on-file.json`, up to where the command has been
run, and for which lines it failed. So a recorder that was killed, and files finished by a recovery, cost no call: the
next start goes on from there. A call may be repeated, but none is omitted.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from wsrec.format.folders import read_file, sync_folder
from wsrec.format.layout import manifest_path, own_folder, read_place
from wsrec.log_folding import FoldedWarnings
from wsrec.supervise.event_hook import FAILED
from wsrec.supervise.hook_process import HINT, Command
from wsrec.units import NAMED, clean, plural, system_error

STATE = "on-file.json"

_LOOK_SECONDS = 0.5
_READ = 1 << 20
_RETRY_LEAST, _RETRY_MOST = 30.0, 3600.0
_AGAIN = "it is tried again later, and at the next start with --on-file"


class _State(msgspec.Struct):
    """What was done: bytes of the manifest, and the offsets of lines in them whose call failed."""

    until: int
    failed: list[int] = []


class _Line(msgspec.Struct):
    """What is needed of a line of the manifest (`wsrec.format.manifest.ManifestLine`, which takes long to import)."""

    path: str | None
    events_path: str | None
    feed: str
    session: str
    replaces: str | None = None
    removed: int | None = None


class FileHook(threading.Thread):
    """Runs a command for each line that a recording or a recovery adds to the manifest.

    Without a state from an earlier recording, it begins with the lines that are added from now on.

    Args:
        command: the command.
        on_log: takes log lines.
        is_ours: whether this process holds the folder: only one recorder runs the command.

    """

    def __init__(self, command: Command, on_log: Callable[..., None], is_ours: Callable[[], bool]) -> None:
        super().__init__(name="on-file", daemon=True)
        self._command = command
        self._folded = FoldedWarnings(on_log)
        self._is_ours = is_ours
        self._manifest = manifest_path(command.out)
        self._path = own_folder(command.out) / STATE
        self._state = _State(self._size())
        self._retry_at, self._wait = 0.0, _RETRY_LEAST
        self._ending = threading.Event()
        self._stopped = threading.Event()

    def end(self) -> None:
        """End after the files that are finished by now; each earlier failure is tried once more."""
        self._ending.set()

    def stop(self) -> None:
        """End at once; the running command is ended too."""
        self._stopped.set()
        self._ending.set()

    def run(self) -> None:
        """Run the command for each file, until the end."""
        while not self._is_ours():
            # asked once more: it may have become ours since the last look
            if self._ending.wait(_LOOK_SECONDS) and not self._is_ours():
                return
        self._load()
        while not self._stopped.is_set():
            ending = self._ending.is_set()
            self._folded.due()
            if self._take_next():
                continue
            if self._state.failed and (ending or time.monotonic() >= self._retry_at):
                if not self._retry() and ending:
                    break
            elif ending:
                break
            else:
                self._ending.wait(_LOOK_SECONDS)
        self._report_left()
        self._folded.flush()

    def _take_next(self) -> bool:
        """Run the command for the next new line; False if there is none."""
        text = self._line_at(self._state.until) if self._size() > self._state.until else None
        if text is None:
            return False
        done = self._run(text)
        if self._stopped.is_set() and not done:
            # the next start does it
            return True
        if not done:
            self._state.failed.append(self._state.until)
            self._put_off()
        self._state.until += len(text) + 1
        self._save()
        return True

    def _retry(self) -> bool:
        """Run the command again for the oldest line for which it failed; returns whether that succeeded."""
        text = self._line_at(self._state.failed[0])
        if text is not None and not self._run(text):
            self._put_off()
            return False
        self._wait = _RETRY_LEAST
        del self._state.failed[0]
        self._save()
        return True

    def _put_off(self) -> None:
        self._retry_at = time.monotonic() + self._wait
        self._wait = min(2 * self._wait, _RETRY_MOST)

    def _run(self, text: bytes) -> bool:
        """Run the command for a line; True if there is nothing more to do for it."""
        line = self._decoded(text)
        if line is None:
            return True
        given = {
            "hook": self._command.name,
            "out": str(self._command.out.absolute()),
            "path": self._absolute(line.path),
            "events_path": self._absolute(line.events_path),
            "line": msgspec.Raw(text),
        }
        problem = self._command.run(msgspec.json.encode(given) + b"\n", self._stopped)
        if problem is not None:
            path = line.path or line.events_path
            message = f"--on-file {problem} (for {path}); {_AGAIN}"
            detail = {"hook": self._command.name, "path": path}
            self._folded.warn(line.feed, "failures of --on-file", message, HINT, kind=FAILED, detail=detail)
        return problem is None

    def _decoded(self, text: bytes) -> _Line | None:
        """A line of a recording or a recovery; None for any other, one cut off by a crash, and what leads elsewhere."""
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.DecodeError:
            return None
        out = self._command.out
        names = [name for name in (line.path, line.events_path) if name is not None]
        is_recorded = line.replaces is None and line.removed is None
        return line if names and is_recorded and all(read_place(out, out / name) for name in names) else None

    def _absolute(self, name: str | None) -> str | None:
        return None if name is None else str((self._command.out / name).absolute())

    def _line_at(self, offset: int) -> bytes | None:
        """The whole line at an offset of the manifest, without its end; None if there is none."""
        data = b""
        try:
            with self._opened() as fd:
                while b"\n" not in data:
                    more = os.pread(fd, _READ, offset + len(data))
                    if not more:
                        return None
                    data += more
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn("manifest", f"--on-file waits: the manifest cannot be read: {system_error(error)}")
            return None
        return data.partition(b"\n")[0]

    @contextlib.contextmanager
    def _opened(self) -> Any:
        fd = os.open(self._manifest, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _size(self) -> int:
        try:
            return self._manifest.stat().st_size
        except OSError:
            return 0

    def _load(self) -> None:
        try:
            self._state = msgspec.json.decode(read_file(self._path), type=_State)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            hint = "its calls for files finished before are repeated: none is left out"
            problem = system_error(error) if isinstance(error, OSError) else error
            self._warn(
                "state", f"--on-file begins with the first file again: {self._path} is no state: {problem}", hint
            )
            self._state = _State(0)
        # a manifest that was replaced by a shorter one
        until = max(min(self._state.until, self._size()), 0)
        self._state = _State(until, [offset for offset in self._state.failed if 0 <= offset < until])
        self._save()

    def _save(self) -> None:
        new = self._path.with_name(f"{STATE}.new")
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(self._state))
                file.flush()
                os.fsync(fd)
            new.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            hint = "if this recorder is killed, the next one repeats calls of --on-file"
            self._warn("state", f"{self._path} cannot be written: {system_error(error)}", hint)

    def _report_left(self) -> None:
        paths, offset = [], self._state.until
        waiting = list(self._state.failed)
        while (text := self._line_at(offset)) is not None:
            waiting.append(offset)
            offset += len(text) + 1
        for offset in waiting:
            line = self._decoded(self._line_at(offset) or b"")
            if line is not None:
                paths.append(str(line.path or line.events_path))
        if paths:
            shown = ", ".join(clean(path) for path in paths[:NAMED])
            more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
            message = f"{plural(len(paths), 'file')} left without a successful --on-file: {shown}{more}"
            hint = "the next start with --on-file goes on with them"
            self._folded.warn(
                "", "files left", message, hint, kind=FAILED, detail={"hook": "file", "paths": paths[:100]}
            )

    def _warn(self, what: str, message: str, hint: str | None = None) -> None:
        self._folded.warn("", what, message, hint, kind=FAILED, detail={"hook": self._command.name})
