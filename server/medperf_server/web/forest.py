"""A forest plot: estimates with their intervals below each other, and the pooled one last.

Where things are is in percent of the plot's width, so that the page scales it, and not its text,
to any screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medperf_server.analysis.pooling import Estimate

# Of the width, on either side; about so many labels on the axis.
MARGIN, TICKS = 4.0, 4


@dataclass(frozen=True)
class Line:
    """One estimate of a plot; its place and that of its interval in percent of the width."""

    label: str
    value: float
    low: float | None
    high: float | None

    @property
    def middle(self) -> float:
        """Where the value is between the ends of its interval, in percent of that."""
        assert self.low is not None and self.high is not None
        width = self.high - self.low
        return round(100 * (self.value - self.low) / width, 2) if width else 50.0


@dataclass(frozen=True)
class Forest:
    """A plot: a line for each estimate, one for all together, and where the axis has its labels."""

    lines: list[Line]
    pooled: Line | None
    ticks: list[tuple[float, str]]


def forest(
    estimates: Sequence[tuple[str, Estimate]], pooled: tuple[str, Estimate] | None
) -> Forest | None:
    """The plot of labelled estimates, all on one axis; None if there are none."""
    if not estimates:
        return None
    every = [one for _, one in (*estimates, *([pooled] if pooled else []))]
    ends = [end for one in every for end in (one.low, one.value, one.high) if end is not None]
    low, high = min(ends), max(ends)
    if low == high:
        room = abs(low) / 10 or 1.0
        low, high = low - room, high + room

    def at(value: float) -> float:
        return round(MARGIN + (100 - 2 * MARGIN) * ((value - low) / (high - low)), 2)

    def line(label: str, one: Estimate) -> Line:
        is_whole = one.low is not None and one.high is not None
        ends = (at(one.low), at(one.high)) if is_whole else (None, None)  # type: ignore[arg-type]
        return Line(label, at(one.value), *ends)

    return Forest(
        [line(label, one) for label, one in estimates],
        line(*pooled) if pooled else None,
        [(at(value), f"{value:.6g}") for value in _ticks(low, high)],
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within an axis, TICKS or so."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    # An axis that is far from 0 and short has no room for round numbers that a float can tell.
    return [number * step for number in range(first, min(last, first + 2 * TICKS) + 1)]
