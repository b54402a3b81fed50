"""The command line: one click command a file. Parse options, call one function, print; no logic."""

from wsrec.cli.early import hold_signals

# before all that takes long to import
hold_signals()

from wsrec.cli.main import main  # noqa: E402

__all__ = ["main"]
