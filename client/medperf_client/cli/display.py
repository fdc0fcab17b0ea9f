"""Progress on stderr: bars and a live line on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

import click

from medperf_client.cli.text import human_size, plain

if TYPE_CHECKING:  # A command that shows no progress does not pay for them.
    from rich.progress import Progress

    from medperf_client.execution.steps import Moment

# How what is read and not fetched begins, see `medperf_cache.fingerprints`.
HASHING = "hashing "
WORDS = {
    "queued": "in the queue",
    "start": "running",
    "ran": "done",
    "cached": "from cache",
    "failed": "failed",
}


class Display:
    """Shows transfers (`progress`) and the steps of a test (`watch`) until closed.

    rich is imported only on a terminal, and only when something takes time.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._bars: Progress | None = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._before: dict[str, int] = {}
        self._hidden = False
        # Several transfers go on at once.
        self._one = Lock()

    def close(self) -> None:
        """Clear what is live on the terminal."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Show no transfers during the block, in which something else is live on the terminal."""
        self.close()
        self._hidden = True
        try:
            yield
        finally:
            self._hidden = False

    def progress(self, what: str, done: int, total: int | None) -> None:
        """So many bytes `done` of a transfer, or of what is hashed, out of `total` (None: unknown).

        Any thread may call it.
        """
        with self._one:
            if not self._hidden:
                self._show(what, done, total)

    def _show(self, what: str, done: int, total: int | None) -> None:
        begun = self._started.setdefault(what, time.monotonic())
        # What was here at first says nothing of the speed; what starts over is not here any more.
        before = self._before[what] = min(self._before.get(what, done), done)
        if self._live:
            bars = self._rich()
            if what not in self._tasks:
                self._tasks[what] = bars.add_task(_short(what), total=total, completed=done)
            bars.update(self._tasks[what], completed=done, total=total)
        elif done == total:
            per_second = human_size((done - before) / max(time.monotonic() - begun, 1e-3))
            speed = f", {per_second}/s" if done > before else ""
            said = what if what.startswith(HASHING) else f"fetched {what}"
            click.echo(plain(f"{said}: {human_size(done)}{speed}"), err=True)

    def watch(self, step: str, moment: "Moment") -> None:
        """A step begins, or has ended; `step` is what people are shown of it."""
        begun = self._started.setdefault(step, time.monotonic())
        took = (
            ""
            if moment in ("queued", "start", "cached")
            else f" ({time.monotonic() - begun:.1f} s)"
        )
        line = plain(f"{step}: {WORDS[moment]}{took}")
        if not self._live or moment == "cached":
            click.echo(line, err=True)
            return
        bars = self._rich()
        if moment == "start":
            self._tasks[step] = bars.add_task(line, total=None, running=True)
        else:
            if step in self._tasks:
                bars.remove_task(self._tasks.pop(step))
            bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _rich(self) -> "Progress":
        if self._bars is None:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TransferSpeedColumn,
            )

            class Transfer(DownloadColumn):
                """Bytes, for transfers only."""

                def render(self, task: Any) -> Any:
                    return "" if task.fields.get("running") else super().render(task)

            class Speed(TransferSpeedColumn):
                """Bytes a second, for transfers only."""

                def render(self, task: Any) -> Any:
                    return "" if task.fields.get("running") else super().render(task)

            self._bars = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                Transfer(),
                Speed(),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                # A result goes to stdout, wherever that leads, also while something is shown.
                redirect_stdout=False,
            )
            self._bars.start()
        return self._bars


def _short(what: str) -> str:
    doing = HASHING if what.startswith(HASHING) else ""
    return plain(doing + (what.rstrip("/").rpartition("/")[2] or what))
