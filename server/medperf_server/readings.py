"""The figures in what containers report, of whatever form: numbers by their path."""

import math
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

DEPTH, MOST, LONGEST = 6, 200, 100


def numbers(results: Any) -> dict[str, float]:
    """The numbers in results by their path, such as `class_1/auroc`; the first MOST at most."""
    found = ((name, value) for name, value in leaves(results) if is_number(value))
    return {name: float(value) for name, value in islice(found, MOST)}


def numbers_of(results: Any, names: Collection[str]) -> dict[str, float]:
    """The numbers of these names in results, however many there are before them."""
    found = ((name, value) for name, value in leaves(results) if name in names)
    return {name: float(value) for name, value in found if is_number(value)}


def part(report: Any, key: str) -> Any:
    """What a report has under a key; None if it is none, or has nothing there."""
    return report.get(key) if isinstance(report, dict) else None


def leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Whatever is in a report and holds nothing else that is looked into, with its path."""
    if isinstance(value, (dict, list)) and value and depth < DEPTH:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            shown = label(key)
            yield from leaves(inner, f"{name}/{shown}" if name else shown, depth + 1)
    elif value is not None or name:
        yield name or "result", value


def is_number(value: Any) -> bool:
    """Whether it can be drawn; an integer may be too large for a float."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) < 1e300 and math.isfinite(value)


def label(name: Any) -> str:
    """A name as a page shows it."""
    text = str(name).strip() if isinstance(name, (str, int)) else ""
    return cut(text) if text else "(no name)"


def cut(text: str) -> str:
    """A text as far as a page shows it."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
