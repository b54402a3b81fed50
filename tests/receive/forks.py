"""Receiver processes for tests that start a hundred of them: forked from one process that has done the imports.

Starting Python and importing the receiver takes 0.4 s of processor time, and the tests that need a process of their own
are about something else. `python -m wsrec.receive` itself is started by every recording of the suite.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import IO

_REQUEST_MAX = 1 << 16
_FDS_MAX = 200


class Forks:
    """The process that is forked, started by the first `fork`; it ends with this one."""

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def fork(self, descriptors: Sequence[int]) -> Fork:
        """Start a receiver with these descriptors, under the same numbers."""
        if self._control is None:
            self._control = self._start()
            atexit.register(self._end)
        stdin, job = os.pipe()
        output, stdout = os.pipe()
        errors, stderr = os.pipe()
        ends = [stdin, stdout, stderr]
        targets = [0, 1, 2, *descriptors]
        socket.send_fds(self._control, [json.dumps(targets).encode()], [*ends, *descriptors])
        pid = int(self._control.recv(32))
        for fd in ends:
            os.close(fd)
        return Fork(pid, self._control, job, output, errors)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            # without threads, which a fork would not take along
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        return ours

    def _end(self) -> None:
        assert self._control is not None
        assert self._process is not None
        self._control.close()
        self._process.wait()


class Fork:
    """A forked receiver, with as much of the interface of `subprocess.Popen` as tests use."""

    def __init__(self, pid: int, control: socket.socket, stdin: int, stdout: int, stderr: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = os.fdopen(stdin, "wb")
        self._stdout, self._stderr = os.fdopen(stdout, "rb"), os.fdopen(stderr, "rb")
        self._control = control
        # its parent reaps it only when asked to: until then the number is its own
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        if self.returncode is None and select.select([self._pidfd], [], [], 0)[0]:
            self._reap()
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Wait for its end; returns what it has written."""
        if self.stdin is not None:
            self.stdin.close()
        if not select.select([self._pidfd], [], [], timeout)[0] and self.returncode is None:
            raise subprocess.TimeoutExpired("a receiver", timeout or 0.0)
        with self._stdout, self._stderr:
            written = self._stdout.read(), self._stderr.read()
        if self.returncode is None:
            self._reap()
        os.close(self._pidfd)
        return written

    def _reap(self) -> None:
        self._control.send(json.dumps(self.pid).encode())
        self.returncode = int(self._control.recv(32))


def _serve(control: socket.socket) -> None:
    """Fork and reap as requested, until the tests' process ends."""
    from wsrec.receive import process

    while True:
        data, fds, _, _ = socket.recv_fds(control, _REQUEST_MAX, _FDS_MAX)
        if not data:
            return
        request = json.loads(data)
        if isinstance(request, int):
            _, status = os.waitpid(request, 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            _run(process.main, fds, request)
        control.send(str(pid).encode())
        for fd in fds:
            os.close(fd)


def _run(main, fds: Sequence[int], targets: Sequence[int]) -> None:
    """Be the receiver: move the descriptors to where they belong, and close all others."""
    status = 1
    try:
        beyond = max(*fds, *targets) + 1
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, beyond) for fd in fds]
        os.closerange(3, beyond)
        for fd, target in zip(moved, targets, strict=True):
            os.dup2(fd, target)
            os.close(fd)
        status = main()
    except BaseException:  # noqa: BLE001 (printed, as Python does at the end)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
