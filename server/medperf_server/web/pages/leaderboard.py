"""A benchmark's approved models, ranked by a metric of their compatibility tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from flask import render_template, request
from sqlalchemy import Text, cast, func, select

from medperf_server.api.common import UID, find
from medperf_server.models import APPROVED, Association, Benchmark, Container, db
from medperf_server.web.blueprint import blueprint
from medperf_server.web.charts import bars
from medperf_server.web.reports import numbers, part
from medperf_server.weights import fitting, without_json

MOST, MOST_METRICS = 500, 200


@dataclass(frozen=True)
class Row:
    """A model's place; models with the same value share one, without a value there is none."""

    rank: int | None
    uid: int
    name: str
    owner: int
    value: float | None
    is_reference: bool


@blueprint.get(f"/benchmarks/<{UID}:uid>/leaderboard")
def leaderboard(uid: int) -> Any:
    """The models of a benchmark by a metric; the query chooses `metric` and `order`."""
    benchmark = find(Benchmark, uid)
    approved = _approved(benchmark)
    tests = chain([(_reference(benchmark), benchmark.metadata_)], _tests(approved[:MOST]))
    wanted = request.args.get("metric", "")
    metrics: list[str] = []
    entries: list[tuple[Any, dict[str, float], bool]] = []
    for model, report in tests:
        found = numbers(part(report, "test_result"))
        # Those of the reference model come first: they are what the benchmark measures.
        metrics = list(dict.fromkeys([*metrics, *found]))[:MOST_METRICS]
        # Nothing else is shown, and reports may be large.
        kept = found.keys() & {wanted, *metrics[:1]}
        entries.append((model, {name: found[name] for name in kept}, not entries))
    metric = wanted if wanted in metrics else next(iter(metrics), "")
    ascending = request.args.get("order") == "asc"
    rows = ranked(entries, metric, ascending)
    return render_template(
        "leaderboard.html",
        benchmark=benchmark,
        metrics=metrics,
        metric=metric,
        ascending=ascending,
        rows=list(zip(rows, bars([row.value for row in rows]), strict=True)),
        most=MOST if len(approved) > MOST else None,
    )


def ranked(
    entries: list[tuple[Any, dict[str, float], bool]], metric: str, ascending: bool
) -> list[Row]:
    """Rows by a metric, best first; those without it come last, by name."""
    valued = sorted(
        (entry for entry in entries if metric in entry[1]),
        key=lambda entry: (entry[1][metric] if ascending else -entry[1][metric], entry[0].name),
    )
    rows: list[Row] = []
    for place, (model, found, is_reference) in enumerate(valued, 1):
        value = found[metric]
        rank = rows[-1].rank if rows and rows[-1].value == value else place
        rows.append(Row(rank, model.id, model.name, model.owner, value, is_reference))
    others = sorted((e for e in entries if metric not in e[1]), key=lambda entry: entry[0].name)
    return rows + [Row(None, m.id, m.name, m.owner, None, is_ref) for m, _, is_ref in others]


def _reference(benchmark: Benchmark) -> Container:
    uid = benchmark.reference_model_mlcube
    return db.session.get_one(Container, uid, options=without_json(Container))


def _approved(benchmark: Benchmark) -> Sequence[Any]:
    """The models whose newest request is approved, with its UID, and the weight of their test.

    But for the reference model, whose test came with the benchmark; one more than MOST at most.
    """
    newest = select(func.max(Association.id)).filter_by(benchmark=benchmark.id)
    newest = newest.where(Association.model_mlcube != benchmark.reference_model_mlcube)
    newest = newest.group_by(Association.model_mlcube)
    test = func.length(cast(Association.metadata_, Text)).label("weight")
    return db.session.execute(
        select(
            *(Container.id, Container.name, Container.owner), Association.id.label("request"), test
        )
        .join(Association, Association.model_mlcube == Container.id)
        .where(Association.id.in_(newest), Association.approval_status == APPROVED)
        .order_by(Association.priority.desc(), Association.id)
        .limit(MOST + 1)
    ).all()


def _tests(models: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Models with what their requests say of their test, a few in memory at a time."""
    while models:
        some = fitting((model, model.weight) for model in models)
        uids = [model.request for model in some]
        found = db.session.execute(
            select(Association.id, Association.metadata_).where(Association.id.in_(uids))
        )
        reports = {uid: report for uid, report in found}
        yield from ((model, reports.pop(model.request)) for model in some)
        models = models[len(some) :]
