"""The released results of a benchmark, beside each other: a row for each site and model."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from medperf_client.cli.base import site
from medperf_client.cli.text import print_json, print_table
from medperf_client.errors import UsageError


def tell_by_site(results: list[dict[str, Any]], metrics: tuple[str, ...], as_json: bool) -> None:
    """Show results by the site's dataset, then the model; of their figures only `metrics`, if any.

    Raises `UsageError` for a metric that no result has.
    """
    keys = site().catalog.all("signing_key")
    revoked = {one["keyid"] for one in keys if one.get("revoked_at")}
    rows = [_row(one, revoked) for one in results]
    rows.sort(key=lambda row: (row["dataset"], row["model"], row["id"]))
    known = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    strangers = [name for name in metrics if name not in known]
    if strangers and rows:
        raise UsageError(
            f"no result has the metric {', '.join(strangers)}",
            hint=f"They have {', '.join(known)}.",
        )
    if as_json:
        print_json(rows)
        return
    columns = metrics or known
    print_table(
        ("SITE", "DATASET", "MODEL", "NAME", "RESULT", "NOTE", *columns),
        [
            (
                *(row[name] for name in ("site", "dataset", "model", "name", "id", "note")),
                *(row["metrics"].get(name) for name in columns),
            )
            for row in rows
        ],
    )
    sites, models = ({row[name] for row in rows} for name in ("dataset", "model"))
    click.echo(f"{len(rows)} results of {len(models)} models on {len(sites)} datasets.", err=True)


def _row(result: dict[str, Any], revoked: set[str]) -> dict[str, Any]:
    catalog = site().catalog
    dataset = catalog.get("dataset", result["dataset"]) or {}
    model = catalog.get("mlcube", result["model"]) or {}
    metadata = result.get("metadata")
    notes = ["partial"] if isinstance(metadata, dict) and metadata.get("partial") else []
    notes += ["not valid"] if result.get("is_valid") is False else []
    notes += ["key revoked"] if result.get("signed_by") in revoked else []
    return {
        "site": dataset.get("name"),
        "dataset": result["dataset"],
        "model": result["model"],
        "name": model.get("name"),
        "id": result["id"],
        "note": ", ".join(notes),
        "metrics": dict(_figures(result["results"])),
    }


def _figures(results: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, int | float]]:
    """Every number of results, by its name; of what is nested as `lesion.dice`."""
    for name, value in results.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{above}{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{above}{name}", value
