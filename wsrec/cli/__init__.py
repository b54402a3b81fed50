"""The command line: one click command a file. Parse options, call one function, print; no logic."""

from wsrec.cli.main import main

__all__ = ["main"]
