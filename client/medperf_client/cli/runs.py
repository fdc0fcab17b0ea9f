"""What becomes of each model of a run, on the terminal while it goes on."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medperf_client.cli.base import display
from medperf_client.cli.display import WORDS
from medperf_client.cli.text import plain

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from medperf_client.execution.steps import Moment


@dataclass
class _Row:
    """One model: what it does, since when, and how long it took once it has ended."""

    uid: Any
    name: str
    step: str = "waits"
    began: float | None = None
    seconds: float | None = None
    cache: str = ""

    @property
    def took(self) -> str:
        if self.began is None and self.seconds is None:
            return ""
        seconds = time.monotonic() - self.began if self.began is not None else self.seconds or 0.0
        return f"{seconds:.0f} s"


@contextmanager
def table_of(models: Sequence[tuple[Any, str, str]]) -> "Iterator[RunTable | None]":
    """A table for the block, if there are several models and a terminal to show it on.

    Each has a UID and a name, and what steps call it.
    """
    if len(models) < 2 or not sys.stderr.isatty():
        yield None
        return
    with display().hidden(), RunTable(models) as table:
        yield table


class RunTable:
    """A table of models, kept up to date; one for the terminal only, and gone in the end."""

    def __init__(self, models: Sequence[tuple[Any, str, str]]) -> None:
        self._rows = {called: _Row(uid, name) for uid, name, called in models}
        self._live: Live | None = None

    def __enter__(self) -> "RunTable":
        from rich.console import Console
        from rich.live import Live

        self._live = Live(
            console=Console(stderr=True),
            get_renderable=self._table,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
        )
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def watch(self, step: str, moment: "Moment") -> None:
        """A step begins, or has ended: of a model, or one that all models wait for."""
        task, _, model = step.partition(" of ")
        for called, row in self._rows.items():
            if model in ("", called):
                row.step = f"{task}: {WORDS[moment]}"
            if called == model and row.began is None:
                row.began = time.monotonic()
        self._refresh()

    def ended(self, called: str, made: str | None, is_cached: bool) -> None:
        """A model has `made` something, or failed."""
        row = self._rows[called]
        row.seconds = time.monotonic() - row.began if row.began is not None else None
        row.began = None
        row.cache = "yes" if is_cached else "no"
        row.step = "failed" if made is None else f"done: {made}"
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def _table(self) -> "Table":
        from rich.table import Table

        table = Table("MODEL", "NAME", "STEP", "TIME", "FROM CACHE", box=None)
        for row in self._rows.values():
            cells = (str(row.uid), plain(row.name), plain(row.step), row.took, row.cache)
            table.add_row(*cells)
        return table
