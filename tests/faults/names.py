"""A name server of a test's own, and `wsrec record` with files of its own in the place of the system's."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from tests.conftest import Wsrec


def may_mount() -> bool:
    """Whether a process can be given an /etc of its own."""
    try:
        return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class NameServer:
    """A name server on loopback: each name has the address 127.0.0.1; while `silent` it answers nothing.

    Attributes:
        ip: where it is, port 53.
        silent: whether it leaves questions unanswered.

    """

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for n in range(2, 250):
            # two runs of the tests may want one at the same time
            self.ip = f"127.53.{n}.1"
            with contextlib.suppress(OSError):
                self._socket.bind((self.ip, 53))
                break
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def files(self) -> dict[str, str]:
        """What has a process ask it, and for how long: 90 s."""
        return {"/etc/resolv.conf": f"nameserver {self.ip}\noptions timeout:30 attempts:3\n"}

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, client = self._socket.recvfrom(2048)
                if self.silent or not question:
                    continue
                end = question.index(b"\0", 12) + 5
                (kind,) = struct.unpack(">H", question[end - 4 : end - 2])
                found = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x7f\0\0\x01" if kind == 1 else b""
                head = question[:2] + struct.pack(">HHHHH", 0x8180, 1, bool(found), 0, 0)
                self._socket.sendto(head + question[12:end] + found, client)

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class Recording:
    """One `wsrec record`.

    Args:
        folder: an empty one; `out` in it is the output's.
        targets: and options.
        files: content of files that are to be the system's for it, by path (root).

    Attributes:
        out: the output folder.
        result: its JSON, once it has ended.

    """

    def __init__(self, folder: Path, *targets: str, files: dict[str, str] | None = None) -> None:
        self.out = folder / "out"
        self.result: dict[str, Any] = {}
        command = Wsrec.command("record", *targets, "--out", self.out, "--json")
        mounts = []
        for path, content in (files or {}).items():
            own = folder / path.replace("/", "_")
            own.write_text(content)
            mounts.append(f"mount --bind {own} {path}")
        if mounts:
            command = ["unshare", "--mount", "sh", "-c", " && ".join([*mounts, 'exec "$@"']), "sh", *command]
        self._errors = folder / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)

    @property
    def errors(self) -> str:
        """Its output so far."""
        return self._errors.read_text()

    def until_printed(self, words: str) -> None:
        """Wait until it has printed `words`."""
        deadline = time.monotonic() + 60
        while words not in self.errors:
            assert time.monotonic() < deadline, self.errors
            time.sleep(0.02)

    def stop(self) -> tuple[float, int]:
        """End it as an operator does: how long that took (s), and its status."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        output, _ = self._process.communicate(timeout=200)
        took = time.monotonic() - began
        self.result = json.loads(output)
        return took, self._process.returncode
