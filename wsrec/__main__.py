"""`python -m wsrec`: the `wsrec` command."""

from wsrec.cli import main

main(prog_name="wsrec")
