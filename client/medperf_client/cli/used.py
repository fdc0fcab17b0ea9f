"""What models took of the time and memory that they asked for, so that the next one asks better."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from medperf_client.cli.text import plain, print_table

if TYPE_CHECKING:
    from medperf_client.execution.compatibility import Tested
    from medperf_client.execution.evaluation import Outcome
    from medperf_client.execution.used import Used

# Of the memory that was asked for: less is too little to be worth it, more is hardly enough.
LITTLE, MUCH = 0.5, 0.9


def tell_used(outcomes: "Sequence[Outcome | Tested]") -> None:
    """A table of what was asked for and used, and a line of advice; nothing if nothing ran."""
    measured = [(one, one.used) for one in outcomes if one.used]
    if not measured:
        return
    print_table(
        ("MODEL", "NODE", "WAITED", "TIME", "ASKED", "MEMORY", "ASKED"),
        [
            (
                one.model,
                used.node,
                _duration(used.waited_seconds),
                _duration(used.seconds),
                _duration(used.asked_seconds),
                memory(used),
                None if used.asked_bytes is None else size(used.asked_bytes),
            )
            for one, used in measured
        ],
    )
    advice = _advice(measured)
    if advice:
        click.echo(plain(advice), err=True)


def memory(used: "Used") -> str | None:
    """How much memory was used, and of what that is."""
    if used.memory_bytes is None:
        return None
    return f"{size(used.memory_bytes)} ({used.memory_of})"


def size(size_bytes: float) -> str:
    """An amount of memory as it is asked for, such as 32G: in units of 1024."""
    for unit in "KMG":
        size_bytes /= 1024
        if size_bytes < 1024:
            return f"{size_bytes:.4g}{unit}"
    return f"{size_bytes / 1024:.4g}T"


def _advice(measured: "Sequence[tuple[Outcome | Tested, Used]]") -> str:
    """What to ask for another time, where that is clear."""
    from medperf_client.execution.used import JOB

    shares = [(one, used, share) for one, used in measured if (share := used.memory_share)]
    if not shares:
        return ""
    scarce = [str(one.model) for one, _, share in shares if share > MUCH]
    if scarce:
        return (
            f"More than {MUCH:.0%} of the memory asked for was used by container "
            f"{', '.join(scarce)}: should it run out, ask for more with executor.memory in the "
            "profile."
        )
    _, used, most = max(shares, key=lambda one: one[2])
    if most >= LITTLE:
        return ""
    # Of several processes at a time nobody knows what they had together.
    alone = "" if used.memory_of == JOB else ", unless a container runs several such at a time"
    return (
        f"Less than half of the memory asked for was used, {memory(used)} at most of "
        f"{size(used.asked_bytes or 0)}: ask for less with executor.memory in the profile{alone}."
    )


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else str(timedelta(seconds=round(seconds)))
