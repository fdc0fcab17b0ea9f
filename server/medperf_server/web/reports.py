"""What a test report holds, whoever wrote it: numbers by name, and the times of steps."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

DEPTH, MOST, LONGEST = 6, 200, 100


@dataclass(frozen=True)
class Metric:
    """A metric of a model beside the reference model's; None where it has none."""

    name: str
    value: float | None
    reference: float | None


@dataclass(frozen=True)
class Step:
    """A step of the workflow, its time in seconds, and that of the reference model's test.

    `source` says whether it ran or its result was in the cache, and who signed that if others did.
    """

    name: str
    seconds: float | None
    reference: float | None
    source: str


def numbers(results: Any) -> dict[str, float]:
    """The numbers in a report's results by their path, such as `class_1/auroc`; MOST at most."""
    found = ((name, value) for name, value in _leaves(results) if _is_number(value))
    return {name: float(value) for name, value in islice(found, MOST)}


def others(results: Any) -> dict[str, str]:
    """What in a report's results is no number to be drawn, in words, by its path."""
    found = ((name, value) for name, value in _leaves(results) if not _is_number(value))
    return {name: _in_words(value) for name, value in islice(found, MOST)}


def side_by_side(report: Any, reference: Any) -> list[Metric]:
    """Every metric of two `metadata` of a test, in the order of the first."""
    ours, theirs = (numbers(part(one, "test_result")) for one in (report, reference))
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [Metric(name, ours.get(name), theirs.get(name)) for name in names]


def steps(report: Any, reference: Any) -> list[Step]:
    """The steps of a test, as far as its `metadata` can be read, beside the reference model's."""
    theirs = {name: seconds for name, seconds, _ in _timed(reference)}
    return [
        Step(name, seconds, theirs.get(name), source) for name, seconds, source in _timed(report)
    ]


def part(report: Any, key: str) -> Any:
    """What a report has under a key; None if it is none, or has nothing there."""
    return report.get(key) if isinstance(report, dict) else None


def _leaves(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (dict, list)) and value and depth < DEPTH:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            label = _label(key)
            yield from _leaves(inner, f"{name}/{label}" if name else label, depth + 1)
    elif value is not None or name:
        yield name or "result", value


def _timed(report: Any) -> Iterator[tuple[str, float | None, str]]:
    listed = part(report, "test_steps")
    for one in listed[:MOST] if isinstance(listed, list) else []:
        seconds = part(one, "seconds")
        known = float(seconds) if _is_number(seconds) else None
        yield _label(part(one, "step")), known, _source(one)


def _source(step: Any) -> str:
    source, signed_by = part(step, "source"), part(step, "signed_by")
    told = _cut(source) if isinstance(source, str) else ""
    return f"{told}, signed by {signed_by[:12]}" if isinstance(signed_by, str) else told


def _is_number(value: Any) -> bool:
    """Whether it can be drawn; an integer may be too large for a float."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) < 1e300 and math.isfinite(value)


def _in_words(value: Any) -> str:
    if isinstance(value, str):
        return f"the text “{_cut(value)}”" if value else "an empty text"
    if isinstance(value, (dict, list)):
        return "nested too deep to be shown" if value else "empty"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number too large to be shown"
    return {None: "no value", True: "true", False: "false"}[value]


def _label(name: Any) -> str:
    text = str(name).strip() if isinstance(name, (str, int)) else ""
    return _cut(text) if text else "(no name)"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
