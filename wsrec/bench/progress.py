"""Progress of a bench run on standard error: a bar on a terminal, otherwise a line per turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from wsrec.bench.run import Observer, Options, turns
from wsrec.units import clean


@contextmanager
def observed(options: Options, console: Console) -> Iterator[Observer]:
    """Display the progress reported to the observer, while the context is open."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=turns(options))
    begun = 0

    def step(text: str) -> None:
        nonlocal begun
        bar.update(task, description=text, completed=begun)
        begun += 1
        if not console.is_terminal:
            console.print(Text(text), soft_wrap=True)

    def warn(text: str) -> None:
        console.print(Text(f"wsrec bench: {clean(text, 1000)}", style="yellow"), soft_wrap=True)

    with bar:
        yield Observer(step, warn)
