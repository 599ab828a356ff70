"""Progress bars on stderr: live on a terminal, a line per ten per cent elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from one_kvm_migrate.disks.convert import Progress, ignore_progress


@contextmanager
def bars(*, quiet: bool = False) -> Iterator["Bars"]:
    """Context with a Bars object; nothing is drawn when *quiet*."""
    if quiet:
        yield Bars(None)
        return
    if not sys.stderr.isatty():
        yield LineBars()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as live:
        yield Bars(live)


class Bars:
    """Hands out one progress callback per named piece of work."""

    def __init__(self, live: object | None) -> None:
        self._live = live

    def say(self, line: str) -> None:
        """Print *line* to stderr without disturbing the bars."""
        from rich.progress import Progress as Live

        if isinstance(self._live, Live):
            self._live.console.print(line, markup=False, highlight=False)

    def bar(self, title: str) -> Progress:
        """A callback (stage, fraction) that draws the bar *title*."""
        if self._live is None:
            return ignore_progress
        from rich.progress import Progress as Live

        assert isinstance(self._live, Live)
        live = self._live
        tasks: dict[str, int] = {}

        def update(stage: str, fraction: float) -> None:
            if stage not in tasks:
                tasks[stage] = live.add_task(f"{title}  {stage:8}", total=1.0)
            live.update(tasks[stage], completed=fraction)  # type: ignore[arg-type]

        return update


class LineBars(Bars):
    """For logs and pipes: a line at each full ten per cent."""

    def __init__(self) -> None:
        super().__init__(None)

    def say(self, line: str) -> None:
        """Print *line* to stderr."""
        _tell(line)

    def bar(self, title: str) -> Progress:
        """A callback that prints ``title: stage 40 %`` to stderr."""
        last: dict[str, int] = {}

        def update(stage: str, fraction: float) -> None:
            tens = int(fraction * 10) * 10
            if last.get(stage) != tens:
                last[stage] = tens
                _tell(f"{title}: {stage} {tens} %")

        return update


def _tell(line: str) -> None:
    # Nobody listens any more (the reader of a pipe went away): no reason to stop the work.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)
