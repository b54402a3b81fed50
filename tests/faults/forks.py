"""Starts processes of ours within milliseconds: forks of one that has imported everything and has a library preloaded.

Nine tenths of a short recording are the imports of its writer; a disk that fails in each of a thousand ways needs a
thousand writers. A fork runs the same code from its `main` on, with its own environment and its own descriptors.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_FDS_MAX = 32
_TIMEOUT = 60.0


class Forked:
    """One process, as `subprocess.Popen` has it.

    Attributes:
        pid: its id.
        returncode: None while it runs; negative where a signal ended it.

    """

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        answers.settimeout(_TIMEOUT)
        self.pid = int(answers.recv(16))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        if self.returncode is None:
            self._answers.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                self._ended(self._answers.recv(16))
        return self.returncode

    def wait(self, timeout: float = _TIMEOUT) -> int:
        """Wait for its end.

        Raises:
            TimeoutError: it still runs.

        """
        if self.returncode is None:
            self._answers.settimeout(timeout)
            self._ended(self._answers.recv(16))
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        """SIGKILL."""
        # it is not waited for by anybody before it was heard of: the id is its own
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _ended(self, answer: bytes) -> None:
        # without one the server died
        self.returncode = int(answer) if answer else -signal.SIGKILL
        self._answers.close()


class Forks:
    """The process that is forked.

    Args:
        library: what to preload.

    """

    def __init__(self, library: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {**os.environ, "LD_PRELOAD": str(library), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from tests.faults.forks import serve; serve()"],
            stdin=theirs.fileno(),
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        theirs.close()
        self._requests = ours
        self._lock = threading.Lock()

    def start(
        self, words: Sequence[str], environment: Mapping[str, str], standard: Sequence[int], fds: Sequence[int] = ()
    ) -> Forked:
        """Start a process.

        Args:
            words: `store` for a writer; `wsrec` and its arguments for a command.
            environment: is added to the server's own.
            standard: what is to be its standard input, output and error.
            fds: other descriptors that it gets, under their own numbers.

        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        request = {"words": list(words), "environment": dict(environment), "fds": [0, 1, 2, *fds]}
        with self._lock:
            data = json.dumps(request).encode()
            socket.send_fds(self._requests, [data], [theirs.fileno(), *standard, *fds])
            # requests are distinguished by the answer
            theirs.close()
            return Forked(ours)

    def close(self) -> None:
        """End it."""
        self._requests.close()
        self._process.wait()


def serve() -> None:
    """Fork at each request that comes on standard input, and say how each fork ends."""
    import wsrec.cli.recover
    import wsrec.writer.process  # noqa: F401

    requests = socket.socket(fileno=os.dup(0))
    children: dict[int, socket.socket] = {}
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is requests:
                data, fds, _, _ = socket.recv_fds(requests, 1 << 16, _FDS_MAX)
                if not data:
                    return
                answers = socket.socket(fileno=fds[0])
                pid = os.fork()
                if not pid:
                    _become(json.loads(data), fds[1:])
                for fd in fds[1:]:
                    os.close(fd)
                ended = os.pidfd_open(pid)
                children[ended] = answers
                selector.register(ended, selectors.EVENT_READ, pid)
                answers.send(b"%d" % pid)
            else:
                ended = int(key.fd)
                selector.unregister(ended)
                os.close(ended)
                _, status = os.waitpid(key.data, 0)
                answers = children.pop(ended)
                with contextlib.suppress(OSError):
                    answers.send(b"%d" % os.waitstatus_to_exitcode(status))
                answers.close()


def _become(request: Any, fds: list[int]) -> None:
    """What a fork does: it never returns."""
    status = 1
    try:
        above = max([*request["fds"], *fds]) + 1
        for fd, number in zip([fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in fds], request["fds"], strict=True):
            os.dup2(fd, number, inheritable=True)
        os.closerange(max(request["fds"]) + 1, above + 3 * _FDS_MAX)
        os.environ.update(request["environment"])
        status = _run(request["words"])
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except Exception:  # noqa: BLE001 (what an interpreter does)
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        # as an interpreter that ends waits for its threads
        deadline = time.monotonic() + _TIMEOUT
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join(max(deadline - time.monotonic(), 0))
        os._exit(status)


def _run(words: list[str]) -> int:
    if words == ["store"]:
        from wsrec.writer.process import main

        return main()
    from wsrec.cli.main import main as command

    sys.argv = words
    command(args=words[1:], prog_name="wsrec")
    return 0
