"""The completion scripts of bash, zsh and fish, and where each shell looks for those of a user.

They are click's own. A shell reads them without running wsrec, which then answers each Tab.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_WSREC_COMPLETE"
# of Debian and Fedora, macOS's Homebrew on both processors, and FreeBSD
_BASH_COMPLETION = (
    "/usr/share/bash-completion/bash_completion",
    "/opt/homebrew/etc/profile.d/bash_completion.sh",
    "/usr/local/etc/profile.d/bash_completion.sh",
    "/usr/local/share/bash-completion/bash_completion.sh",
)


class UnknownFileError(Exception):
    """There is a file of the script's name that is not wsrec's; the message names it."""


class Installed(NamedTuple):
    """What was installed.

    Attributes:
        path: the file.
        is_new: whether it was written; it may have had the same content before.
        to_do: what the user still has to do, if the shell does not find the file by itself; a line each.

    """

    path: Path
    is_new: bool
    to_do: list[str]


def script(shell: str) -> str:
    """The script of a shell of `SHELLS`."""
    found = get_completion_class(shell)
    assert found is not None
    # not `source`, which runs bash to look at its version
    text = found.source_template % found(click.Command("wsrec"), {}, "wsrec", _VARIABLE).source_vars()
    return text.strip() + "\n"


def install(shell: str) -> Installed:
    """Write the script to the folder of this user where the shell looks for it.

    Raises:
        UnknownFileError: there is another file of this name.
        OSError: it cannot be written.

    """
    path, text = _path(shell), script(shell)
    before = path.read_text(errors="replace") if path.exists() else None
    if before is not None and _VARIABLE not in before:
        raise UnknownFileError(f"{path} is there and not wsrec's: remove it, or use `wsrec completion show {shell}`")
    if before != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        # a shell that starts at this moment reads the old one or the new one
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".wsrec-", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        os.replace(file.name, path)  # noqa: PTH105
    return Installed(path, before != text, _to_do(shell, path))


def _path(shell: str) -> Path:
    data = _folder("XDG_DATA_HOME", ".local/share")
    match shell:
        case "bash":
            own = os.environ.get("BASH_COMPLETION_USER_DIR")
            return (Path(own) if own else data / "bash-completion") / "completions" / "wsrec"
        case "zsh":
            return data / "zsh" / "site-functions" / "_wsrec"
        case _:
            return _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / "wsrec.fish"


def _folder(variable: str, default: str) -> Path:
    # the specification has relative ones ignored
    value = Path(os.environ.get(variable, ""))
    return value if value.is_absolute() else Path.home() / default


def _to_do(shell: str, path: Path) -> list[str]:
    if shell == "zsh":
        return [f"zsh looks there if ~/.zshrc has, before compinit: fpath=({path.parent} $fpath)"]
    if shell == "bash" and not any(map(os.path.exists, _BASH_COMPLETION)):
        return [f"without the package bash-completion, ~/.bashrc needs the line: . {path}"]
    return []
