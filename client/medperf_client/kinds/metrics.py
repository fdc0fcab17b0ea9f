"""What a benchmark's metrics mean, as its `metadata.metrics` say it to whoever ranks models.

The registry reads the same, and refuses the same; see docs/ranking.md.
"""

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medperf_client import strict_yaml
from medperf_client.errors import MedPerfError

# The key of a benchmark's metadata.
KEY = "metrics"
MOST, LONGEST = 50, 200
BETTER = ("higher", "lower")
SCALES = ("identity", "log", "logit")
FIELDS = ("name", "better", "range", "interval", "primary")
INTERVAL_FIELDS = ("low", "high", "level", "scale")
LEAST_LEVEL, MOST_LEVEL = 0.5, 0.999
FARTHEST = 1e50
HINT = "docs/ranking.md has an example with all that may be in it."


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The metrics that a file such as `metrics.yaml` describes, as metadata have them.

    Raises `MedPerfError` that names everything that is wrong in the file, by its key.
    """
    try:
        content = strict_yaml.read(file.read_bytes())
    except OSError as error:
        raise MedPerfError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise MedPerfError(f"{file} is not YAML: {error}") from error
    problems = list(_problems_of_file(content))
    if problems:
        raise MedPerfError("\n  ".join([f"{file} describes no metrics:", *problems]), HINT)
    metrics: list[dict[str, Any]] = content[KEY]
    return metrics


def require_known(metrics: list[dict[str, Any]], results: Any) -> None:
    """Raise `MedPerfError` if metrics are named, or their intervals, that results do not have.

    `results` are those of the benchmark's own test, which shows what its metrics container writes.
    """
    known = list(dict.fromkeys(name for name, _ in leaves(results)))
    for one in metrics:
        interval = one.get("interval", {})
        for name in (one["name"], *(interval[end] for end in ("low", "high") if end in interval)):
            if name not in known:
                told = ", ".join(known[:MOST]) or "none at all"
                raise MedPerfError(
                    f"the results of the test have no {name!r}; they have: {told}",
                    hint="Name each as it is there; of what is nested as class_1/auroc.",
                )


def leaves(results: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """What results hold, by the names that the registry has for it: `class_1/auroc`, `auroc_ci/0`.

    >>> list(leaves({"auroc": 0.9, "auroc_ci": [0.8, 1.0]}))
    [('auroc', 0.9), ('auroc_ci/0', 0.8), ('auroc_ci/1', 1.0)]
    """
    if isinstance(results, (Mapping, list)) and results:
        pairs = results.items() if isinstance(results, Mapping) else enumerate(results)
        for key, inner in pairs:
            label = str(key).strip()
            yield from leaves(inner, f"{above}/{label}" if above else label)
    elif above:
        yield above, results


def _problems_of_file(content: Any) -> Iterator[str]:
    if not isinstance(content, Mapping) or set(content) != {KEY}:
        yield _expected("the file", f"'{KEY}:' with a list, and nothing else", content)
        return
    metrics = content[KEY]
    if not isinstance(metrics, list) or not 1 <= len(metrics) <= MOST:
        yield _expected(KEY, f"a list of 1 to {MOST} metrics", metrics)
        return
    for at, one in enumerate(metrics):
        yield from _problems(one, f"{KEY}[{at}]")
    maps = [one for one in metrics if isinstance(one, Mapping)]
    names = [name for one in maps if isinstance(name := one.get("name"), str)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{KEY}: the name {name!r} is there twice"
    if sum(one.get("primary") is True for one in maps) > 1:
        yield f"{KEY}: only one of them can be primary"


def _problems(one: Any, where: str) -> Iterator[str]:
    if not isinstance(one, Mapping):
        yield _expected(where, f"a mapping of {', '.join(FIELDS)}", one)
        return
    yield from _unknown(one, FIELDS, where)
    if not _is_name(one.get("name")):
        yield _expected(f"{where}.name", "the name of a figure in the results", one.get("name"))
    if one.get("better") not in BETTER:
        yield _expected(f"{where}.better", " or ".join(BETTER), one.get("better"))
    if not isinstance(one.get("primary", False), bool):
        yield _expected(f"{where}.primary", "true or false", one["primary"])
    if "range" in one and not _is_range(one["range"]):
        told = "[lowest, highest], of which one may be null"
        yield _expected(f"{where}.range", told, one["range"])
    if "interval" in one:
        yield from _problems_of_interval(one["interval"], one.get("range"), f"{where}.interval")


def _problems_of_interval(interval: Any, bounds: Any, where: str) -> Iterator[str]:
    if not isinstance(interval, Mapping):
        yield _expected(where, f"a mapping of {', '.join(INTERVAL_FIELDS)}", interval)
        return
    yield from _unknown(interval, INTERVAL_FIELDS, where)
    for end in ("low", "high"):
        if not _is_name(interval.get(end)):
            told = "the name of a figure in the results"
            yield _expected(f"{where}.{end}", told, interval.get(end))
    level = interval.get("level", MOST_LEVEL)
    if not _is_number(level) or not LEAST_LEVEL <= level <= MOST_LEVEL:
        yield _expected(f"{where}.level", f"{LEAST_LEVEL} to {MOST_LEVEL}, such as 0.95", level)
    scale = interval.get("scale", "identity")
    if scale not in SCALES:
        yield _expected(f"{where}.scale", f"one of {', '.join(SCALES)}", scale)
    elif scale == "logit" and (not _is_range(bounds) or None in bounds):
        yield f"{where}.scale: logit is of a metric with a range of two numbers, such as [0, 1]"


def _unknown(found: Mapping[Any, Any], known: tuple[str, ...], where: str) -> Iterator[str]:
    for key in found:
        if key not in known:
            yield f"{where}: {reprlib.repr(key)} is not one of {', '.join(known)}"


def _is_name(value: Any) -> bool:
    # White space around it is not in the name that the registry makes of a result's keys.
    fits = isinstance(value, str) and 1 <= len(value) <= LONGEST
    return fits and value.isprintable() and value == value.strip()


def _is_number(value: Any) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and math.isfinite(value) if isinstance(value, float) else known


def _is_range(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or value == [None, None]:
        return False
    known = [end for end in value if end is not None]
    if not all(_is_number(end) and abs(end) <= FARTHEST for end in known):
        return False
    return len(known) == 1 or known[0] < known[1]


def _expected(where: str, what: str, found: Any) -> str:
    return (
        f"{where}: expected {what}, found {reprlib.repr(found) if found is not None else 'nothing'}"
    )
