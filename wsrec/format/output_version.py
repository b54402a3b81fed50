"""Version check of an output folder, before a recorder adds to it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from wsrec.format import manifest
from wsrec.format.claim import is_live
from wsrec.format.folders import session_folders
from wsrec.format.unfinished import RECORD, checks


def check_output(out: Path) -> None:
    """Make sure that neither the manifest nor an unfinished session of an output folder is of another version.

    Files that are damaged, cannot be read, or vanish meanwhile (those of a recorder that is being replaced) state none:
    recovery reports them.

    Raises:
        OtherVersionError: one is.

    """
    with contextlib.suppress(OSError):
        manifest.check_versions(out)
    with contextlib.suppress(OSError):
        for folder in session_folders(out):
            # of a recorder that is being replaced the record is enough: journals need pyarrow, which is slow to import
            live = is_live(folder)
            for path, check in checks(folder):
                if live and path.name != RECORD:
                    continue
                with contextlib.suppress(OSError, msgspec.DecodeError):
                    check()
