"""The end of a process: without searching everything that was imported for cycles."""

import gc


def end_quickly() -> None:
    """Leave what there is now out of the collections with which the interpreter ends; to be called last.

    Python runs several then, each over all that was imported, to free memory that goes back to the system anyway: a
    fifth of a second of processor time for a recorder, and as much for its writer. What is no longer referred to is
    still destroyed. Only entry points of processes call this.
    """
    gc.freeze()
