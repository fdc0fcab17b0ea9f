"""A run of 16 models, two at a time, against half of what one after the other takes."""

from typing import Any

from benchmarks.run import hospital
from benchmarks.stage import MEDPERF, consortium, environment
from benchmarks.timing import command, compare

MODELS, SLOTS, GOAL = 16, 2, 1.08


def measure(rounds: int = 3) -> dict[str, Any]:
    """`benchmark run --jobs 2` on plain processes; it has two cores, or the figure says nothing."""
    with consortium("process") as stage:
        member, uid = hospital(stage, MODELS)
        words = [MEDPERF, "benchmark", "run", "-b", "1", "-d", uid, "--no-cache"]
        seen = environment(member)
        several = command([*words, "--jobs", str(SLOTS)], seen, stage.folder)
        figure = compare(several, command(words, seen, stage.folder), rounds, GOAL)
    return {f"run_{MODELS}_on_{SLOTS}": {**figure, "ratio": round(SLOTS * figure["ratio"], 3)}}
