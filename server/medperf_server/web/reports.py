"""What a test report holds, whoever wrote it: numbers by name, and the times of steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medperf_server.readings import MOST, cut, is_number, label, leaves, numbers, part


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


def others(results: Any) -> dict[str, str]:
    """What in a report's results is no number to be drawn, in words, by its path."""
    found = ((name, value) for name, value in leaves(results) if not is_number(value))
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


def _timed(report: Any) -> Iterator[tuple[str, float | None, str]]:
    listed = part(report, "test_steps")
    for one in listed[:MOST] if isinstance(listed, list) else []:
        seconds = part(one, "seconds")
        known = float(seconds) if is_number(seconds) else None
        yield label(part(one, "step")), known, _source(one)


def _source(step: Any) -> str:
    source, signed_by = part(step, "source"), part(step, "signed_by")
    told = cut(source) if isinstance(source, str) else ""
    return f"{told}, signed by {signed_by[:12]}" if isinstance(signed_by, str) else told


def _in_words(value: Any) -> str:
    if isinstance(value, str):
        return f"the text “{cut(value)}”" if value else "an empty text"
    if isinstance(value, (dict, list)):
        return "nested too deep to be shown" if value else "empty"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "a number too large to be shown"
    return {None: "no value", True: "true", False: "false"}[value]
