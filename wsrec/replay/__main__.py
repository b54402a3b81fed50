"""The replay server as a child process: options as JSON on standard input, whose end stops it."""

from __future__ import annotations

import contextlib
import os
import sys

import msgspec

from wsrec.ipc import read_job
from wsrec.replay.job import Endpoint, ReplayOptions
from wsrec.replay.message import SourceError
from wsrec.replay.run import run
from wsrec.replay.server import ServeError
from wsrec.replay.tls import TlsError


def main() -> None:
    """Serve what the options on standard input request; prints the endpoint as a line of JSON on standard output."""
    try:
        run(read_job(ReplayOptions), _announce, stop_on=sys.stdin.fileno())
    except (SourceError, ServeError, TlsError) as error:
        sys.exit(f"wsrec replay: {error}")
    except msgspec.DecodeError:
        # the parent ended before it could send the options
        return


def _announce(endpoint: Endpoint) -> None:
    # the parent may have ended meanwhile
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), msgspec.json.encode(endpoint) + b"\n")


if __name__ == "__main__":
    main()
