"""Bars of a chart: where each begins and how long it is, in percent of the chart's width."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A bar in percent of the chart's width, between its value and zero."""

    start: float
    length: float
    zero: float


def bars(values: Sequence[float | None]) -> list[Bar]:
    """A bar a value, all on one scale; of negative values they reach to the left of zero.

    Of a value that is missing the bar has no length.
    """
    known = [value for value in values if value is not None]
    low, high = min(known + [0.0]), max(known + [0.0])
    span = high - low
    return [
        Bar(
            _percent(min(value or 0, 0) - low, span),
            _percent(abs(value or 0), span),
            _percent(-low, span),
        )
        for value in values
    ]


def _percent(part: float, whole: float) -> float:
    return round(100 * (part / whole), 1) if whole else 0.0
