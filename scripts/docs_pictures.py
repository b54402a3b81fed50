"""Makes the pictures of the pages, of a recording of the synthetic market: run by `scripts/docs --pictures`.

A picture whose tool is not there stays as it is, and is named.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

# the reader's own font: the usual one would be requested from elsewhere
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL).replace("Fira Code, ", "")
_WSREC = [sys.executable, "-P", "-m", "wsrec"]


class MissingToolError(Exception):
    """A picture cannot be made here."""


def svg(printed: str, title: str, width: int) -> str:
    """What a terminal showed, with its colours, as a picture that requests nothing."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(Text.from_ansi(printed.rstrip()), soft_wrap=True)
    drawn = console.export_svg(title=title, theme=MONOKAI, code_format=_FORMAT, unique_id="terminal")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def on_terminal(command: list[str], folder: Path, width: int) -> str:
    """What a command prints on a terminal of this width."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "LINES": "50", "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=folder, stdout=follower, env=environment) as process:
        os.close(follower)
        printed = b""
        try:
            while chunk := os.read(leader, 65536):
                printed += chunk
        except OSError:  # the end of a terminal
            pass
        os.close(leader)
    assert process.returncode == 0, command
    return printed.decode().replace("\r\n", "\n")


def report(folder: Path, out: Path) -> None:
    """`wsrec report`, of ten seconds."""
    subprocess.run([*_WSREC, "record", "demo", "--duration", "10s", "--quiet"], cwd=folder, check=True)
    printed = on_terminal([*_WSREC, "report", "captures"], folder, 100)
    (out / "report.svg").write_text(svg(printed, "wsrec report captures", 100))


def live_view(folder: Path, out: Path) -> None:
    """The live view of a recording, after some seconds."""
    if shutil.which("tmux") is None:
        raise MissingToolError("tmux")
    tmux = ["tmux", "-L", f"wsrec-{os.getpid()}"]
    command = shlex.join([*_WSREC, "record", "demo", "--duration", "30s", "--out", "live"])
    subprocess.run([*tmux, "new-session", "-d", "-x", "100", "-y", "24", command], cwd=folder, check=True)
    try:
        time.sleep(20)
        shown = subprocess.run([*tmux, "capture-pane", "-e", "-p"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    (out / "live.svg").write_text(svg(shown, "wsrec record demo", 100))


def report_page(folder: Path, out: Path) -> None:
    """The first screen of the page of the same recording, by Chromium."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise MissingToolError("chromium")
    subprocess.run(
        [*_WSREC, "report", "captures", "--html", "report.html"], cwd=folder, check=True, capture_output=True
    )
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1100,1000"]
    shot = [f"--screenshot={folder / 'page.png'}", "--virtual-time-budget=5000", (folder / "report.html").as_uri()]
    subprocess.run([*command, *shot], check=True, capture_output=True, timeout=120)
    shutil.copyfile(folder / "page.png", out / "page.png")


PICTURES: tuple[Callable[[Path, Path], None], ...] = (report, report_page, live_view)


def make(out: Path) -> None:
    """Make all pictures in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wsrec-pictures-") as folder:
        for picture in PICTURES:
            try:
                picture(Path(folder), out)
            except MissingToolError as missing:
                print(f"{picture.__name__} stays as it is: {missing} is not installed", file=sys.stderr)
