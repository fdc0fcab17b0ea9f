"""Results as a table: a row for each figure of each result, as R and pandas expect it.

That is tidy data (Wickham 2014, Journal of Statistical Software 59, 10): a variable a column, an
observation a row, one table. docs/evidence.md says what each column holds.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from medperf_client.kinds import CONTAINER, DATASET, Entity
from medperf_client.kinds.metrics import KEY, leaves
from medperf_client.publishing.collection import Collection, flags, signed_by
from medperf_client.spreadsheets import csv_lines

COLUMNS = (
    *("benchmark", "benchmark_name", "dataset", "dataset_name", "model", "model_name", "result"),
    *("metric", "value", "low", "high", "level", "better"),
    *("is_partial", "is_valid", "signed_by", "key_revoked_at", "released_at"),
)
# The level of an interval of which a benchmark says no other.
LEVEL = 0.95


def rows(collection: Collection) -> Iterator[dict[str, Any]]:
    """The figures of results, by result and in their order there, with `COLUMNS`.

    None stands for what is not known, or not said. Texts and truth values are no figures.
    """
    benchmark = collection.benchmark
    described = _described(benchmark)
    for result in collection.results:
        about = _about(collection, result)
        figures = {name: value for name, value in leaves(result["results"]) if _is_number(value)}
        for name, value in figures.items():
            metric = {"metric": name, "value": value, **_meaning(described.get(name), figures)}
            row = {**about, **metric}
            yield {column: row.get(column) for column in COLUMNS}


def as_csv(collection: Collection) -> Iterator[str]:
    """The same as CSV, line by line."""
    return csv_lines((COLUMNS, *(row.values() for row in rows(collection))))


def _about(collection: Collection, result: Entity) -> dict[str, Any]:
    benchmark = collection.benchmark
    return {
        "benchmark": benchmark["id"],
        "benchmark_name": benchmark["name"],
        "dataset": result["dataset"],
        "dataset_name": collection.of(DATASET.name, result["dataset"]).get("name"),
        "model": result["model"],
        "model_name": collection.of(CONTAINER.name, result["model"]).get("name"),
        "result": result["id"],
        **flags(result),
        "signed_by": signed_by(result) or None,
        "key_revoked_at": collection.key_of(result).get("revoked_at"),
        "released_at": result.get("created_at"),
    }


def _meaning(metric: Mapping[str, Any] | None, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What a benchmark says of a metric: which way is better, and where its interval is."""
    if metric is None:
        return {}
    interval = metric.get("interval")
    if not isinstance(interval, dict):
        return {"better": metric.get("better")}
    low, high = (figures.get(str(interval.get(end))) for end in ("low", "high"))
    is_known = low is not None and high is not None
    level = interval.get("level", LEVEL) if is_known else None
    return {"better": metric.get("better"), "low": low, "high": high, "level": level}


def _described(benchmark: Entity) -> dict[str, Mapping[str, Any]]:
    """The metrics that a benchmark describes, by name; what it has wrong describes none."""
    metadata = benchmark.get("metadata")
    found = metadata.get(KEY) if isinstance(metadata, dict) else None
    metrics = found if isinstance(found, list) else []
    return {str(one.get("name")): one for one in metrics if isinstance(one, dict)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
