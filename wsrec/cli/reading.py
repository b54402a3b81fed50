"""Exit statuses of what goes wrong while a capture is read for one answer: the same for each command that gives one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from wsrec.cli.command import CommandError
from wsrec.engine.work import EngineError
from wsrec.format.errors import (
    EXIT_NOTHING,
    EXIT_UNREADABLE,
    CaptureError,
    NoCaptureError,
    NoSymbolError,
    UnreadableError,
)

_DAMAGED = 1


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Raise `CommandError` for errors of reading."""
    try:
        yield
    except (NoCaptureError, NoSymbolError) as error:
        raise CommandError(str(error), EXIT_NOTHING) from error
    except (UnreadableError, EngineError) as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    except CaptureError as error:
        raise CommandError(str(error), _DAMAGED) from error
