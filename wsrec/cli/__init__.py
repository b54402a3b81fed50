"""The command line: one click command per file. Parses options, calls one function and prints; contains no logic."""

from wsrec.cli.early import hold_signals

# before the slow imports
hold_signals()

from wsrec.cli.main import main  # noqa: E402

__all__ = ["main"]
