"""The preparators' parameters: how each is read, and the ranges they accept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from columns import MEASURES, MICROMETRES, measure_of
from container import between, read_parameters

Policy = dict[str, Any]


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of `choices`."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return read


def interval(text: str) -> tuple[Decimal, Decimal]:
    """Read `low to high`."""
    try:
        low, high = (Decimal(part) for part in text.split(" to "))
    except (InvalidOperation, ValueError):
        raise ValueError("expected two numbers: low to high") from None
    return low, high


READERS: dict[str, Callable[[str], Any]] = {
    "unlabelled_length_unit": one_of(*MICROMETRES),
    "minimum_patients": between(int, 1, 1_000_000_000),
    **{f"accepted_{measure}": interval for measure in MEASURES},
}


def read_policy(own: Mapping[str, Callable[[str], Any]] | None = None) -> Policy:
    """Return the parameters, checked: those of both preparators, and one's own. Raises Refused."""
    return read_parameters({**READERS, **(own or {})})


def accepted(policy: Policy, column: str) -> tuple[Decimal, Decimal]:
    """Return the lowest and highest possible value of `column`."""
    low, high = policy[f"accepted_{measure_of(column)}"]
    return (Decimal(0) if column.endswith("_se") else low), high
