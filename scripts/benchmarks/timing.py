"""Whole commands, timed in turn, so that a drift of the machine's speed falls on both."""

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Run = Callable[[], object]


def command(
    words: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Run:
    """A function that runs a command, which must succeed; its output is dropped."""

    def run() -> None:
        subprocess.run(
            words,
            env=environment,
            cwd=cwd,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    return run


def nothing() -> None:
    """No preparation."""


def compare(
    ours: Run,
    theirs: Run,
    rounds: int,
    goal: float,
    before_ours: Run = nothing,
    before_theirs: Run = nothing,
) -> dict[str, Any]:
    """Run both in turn after a warm-up, what goes before each not timed; medians and ratio."""
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    ours(), theirs()
    for _ in range(rounds):
        for name, before, run in (
            ("ours", before_ours, ours),
            ("theirs", before_theirs, theirs),
        ):
            before()
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "seconds": round(medians["ours"], 4),
        "baseline_seconds": round(medians["theirs"], 4),
        "ratio": round(medians["ours"] / medians["theirs"], 3),
        "goal": goal,
        "rounds": rounds,
    }
