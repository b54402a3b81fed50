"""Entry point of the `wsrec` command, installed or as `python -m wsrec`."""

# not `signal`, whose own imports take milliseconds
import _signal  # type: ignore[import-not-found]

# before everything else that is imported: Ctrl-C ends the process, without a traceback of a half-imported module. It
# stays ignored where the shell ignores it, in the background of a script
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from wsrec.cli.early import end_as_interrupted, hold_signals

hold_signals()

from wsrec.cli.main import main  # noqa: E402
from wsrec.pandas_blocker import block_pandas  # noqa: E402
from wsrec.quick_end import end_quickly  # noqa: E402


def run() -> None:
    """Run the command line; pandas stays out of this process."""
    block_pandas()
    try:
        main(prog_name="wsrec")
    except SystemExit as ended:
        end_as_interrupted(ended.code)
        raise
    finally:
        end_quickly()


if __name__ == "__main__":
    run()
