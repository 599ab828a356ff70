"""What is going on, on stderr: live on a terminal, a few lines elsewhere, nothing if asked so."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from one_kvm_migrate.cli.output import let_listeners_go
from one_kvm_migrate.disks.convert import Progress, ignore_progress

if TYPE_CHECKING:
    from rich.progress import Progress as Live
    from rich.progress import TaskID

LINE_EVERY_PERCENT = 25


class Bars:
    """Draws nothing; the base of those that do."""

    def say(self, line: str) -> None:
        """Tell *line*."""

    def begin(self, title: str) -> None:
        """A piece of work of unknown length begins."""

    def end(self, title: str, line: str) -> None:
        """That piece of work is over; *line* says how."""

    def bar(self, title: str) -> Progress:
        """A callback (stage, fraction) for work whose length is known."""
        return ignore_progress


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Bars]:
    """Context with the Bars that fit: none when *quiet*, live ones on a terminal, else lines."""
    if quiet:
        yield Bars()
    elif sys.stderr.isatty():
        with _live() as live:
            yield LiveBars(live)
    else:
        yield LineBars()


class LiveBars(Bars):
    """Bars and spinners that vanish when their work is done, above them a line per step."""

    def __init__(self, live: "Live") -> None:
        self._live = live
        self._running: dict[str, TaskID] = {}

    def say(self, line: str) -> None:
        """Print *line* above the bars."""
        self._live.console.print(line, markup=False, highlight=False)

    def begin(self, title: str) -> None:
        """Show *title* with a spinner and the time it takes."""
        self._running[title] = self._live.add_task(title, total=None)

    def end(self, title: str, line: str) -> None:
        """Take the spinner away and leave *line*."""
        task = self._running.pop(title, None)
        if task is not None:
            self._live.remove_task(task)
        self.say(line)

    def bar(self, title: str) -> Progress:
        """One bar per stage of *title*, there while it moves."""
        tasks: dict[str, TaskID] = {}

        def update(stage: str, fraction: float) -> None:
            if stage not in tasks:
                tasks[stage] = self._live.add_task(f"{title}: {stage}", total=1.0)
            self._live.update(tasks[stage], completed=fraction, visible=fraction < 1)

        return update


class LineBars(Bars):
    """For logs and pipes: a line per step, and one at each quarter of a long one."""

    def say(self, line: str) -> None:
        """Print *line*."""
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            # Nobody listens any more: no reason to stop the work.
            let_listeners_go()

    def begin(self, title: str) -> None:
        """Print that *title* begins."""
        self.say(f"{title} ...")

    def end(self, title: str, line: str) -> None:
        """Print how it ended."""
        self.say(line)

    def bar(self, title: str) -> Progress:
        """A callback that prints ``title: stage 25 %``."""
        last: dict[str, int] = {}

        def update(stage: str, fraction: float) -> None:
            quarter = int(fraction * 100) // LINE_EVERY_PERCENT * LINE_EVERY_PERCENT
            if last.get(stage, 0) != quarter:
                last[stage] = quarter
                self.say(f"{title}: {stage} {quarter} %")

        return update


def _live() -> "Live":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
