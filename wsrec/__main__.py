"""Entry point of the `wsrec` command, installed or as `python -m wsrec`."""

from wsrec.cli import main
from wsrec.pandas_blocker import block_pandas


def run() -> None:
    """Run the command line; pandas stays out of this process."""
    block_pandas()
    main(prog_name="wsrec")


if __name__ == "__main__":
    run()
