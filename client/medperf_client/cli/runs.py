"""What becomes of each model of a run, on the terminal while it goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medperf_client.cli.display import WORDS
from medperf_client.cli.text import plain

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from medperf_client.execution.evaluation import Outcome
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


class RunTable:
    """A table of models, kept up to date; one for the terminal only, and gone in the end."""

    def __init__(self, models: Sequence[dict[str, Any]]) -> None:
        # As steps call them, see `Library.registered`.
        self._rows = {
            f"container {one['id']} ({one['name']})": _Row(one["id"], one["name"]) for one in models
        }
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
        """A step of a model begins, or has ended."""
        task, _, model = step.partition(" of ")
        row = self._rows.get(model)
        if row is not None:
            row.step = f"{task}: {WORDS[moment]}"
            row.began = row.began if row.began is not None else time.monotonic()
        self._refresh()

    def ended(self, outcome: "Outcome") -> None:
        """A model has its result, or failed."""
        row = self._rows[f"container {outcome.model} ({outcome.name})"]
        row.seconds = time.monotonic() - row.began if row.began is not None else None
        row.began = None
        row.cache = "yes" if outcome.is_cached else "no"
        row.step = "failed" if outcome.error else f"done: {outcome.result and outcome.result.uid}"
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
