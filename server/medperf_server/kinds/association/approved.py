"""The models of a benchmark: its reference model, and those whose newest request is approved."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Text, cast, func, select

from medperf_server.base import APPROVED, db
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.container.table import Container
from medperf_server.weights import fitting, without_json


def reference(benchmark: Benchmark) -> Container:
    """The reference model, whose test came with the benchmark."""
    uid = benchmark.reference_model_mlcube
    return db.session.get_one(Container, uid, options=without_json(Container))


def approved(benchmark: Benchmark, most: int) -> Sequence[Any]:
    """The other models, so many at most, those of the highest priority first.

    Rows of `id`, `name` and `owner` of a model, `request` that was approved and `weight` of its
    test.
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
        .limit(most)
    ).all()


def tests(models: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Models of `approved` with what their requests say of their test, a few in memory at once."""
    while models:
        some = fitting((model, model.weight) for model in models)
        uids = [model.request for model in some]
        found = db.session.execute(
            select(Association.id, Association.metadata_).where(Association.id.in_(uids))
        )
        reports = {uid: report for uid, report in found}
        yield from ((model, reports.pop(model.request)) for model in some)
        models = models[len(some) :]
