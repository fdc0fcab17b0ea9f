"""Benchmarks and the models in them."""

from typing import Any

from flask import g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import (
    UID,
    Blueprint,
    find,
    listed,
    of_admins,
    of_owner,
    page,
    page_of,
    remove,
    update,
)
from medperf_server.models import Association, Benchmark, BenchmarkMember, db
from medperf_server.policy import check_benchmark
from medperf_server.schemas import (
    BenchmarkModelSchema,
    BenchmarkQuery,
    BenchmarkSchema,
    PageQuery,
    SeenBenchmarkSchema,
)

blueprint = Blueprint("benchmarks", __name__, description="Benchmarks")


@blueprint.route("/benchmarks/")
class BenchmarksView(MethodView):
    """All benchmarks."""

    @blueprint.arguments(BenchmarkQuery, location="query")
    @blueprint.response(200, page_of(BenchmarkSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All benchmarks."""
        return listed(Benchmark, query)

    @blueprint.arguments(BenchmarkSchema)
    @blueprint.response(201, BenchmarkSchema)
    def post(self, values: dict[str, Any]) -> Benchmark:
        """Create a benchmark that the caller owns; it starts as PENDING."""
        check_benchmark(g.caller, values)
        benchmark = Benchmark(**values, owner=g.caller.id)
        db.session.add(benchmark)
        db.session.flush()
        return benchmark


@blueprint.route(f"/benchmarks/<{UID}:uid>/")
class BenchmarkView(MethodView):
    """One benchmark."""

    @blueprint.response(200, BenchmarkSchema)
    def get(self, uid: int) -> Benchmark:
        """One benchmark."""
        return find(Benchmark, uid)

    @of_owner(Benchmark)
    @blueprint.arguments(SeenBenchmarkSchema(partial=True))
    @blueprint.response(200, BenchmarkSchema)
    def put(self, values: dict[str, Any], uid: int) -> Benchmark:
        """Change a benchmark; its owner or an admin. Only an admin approves or rejects.

        With `seen`, the digest of what they looked at, it is refused where that has changed since.
        """
        benchmark = find(Benchmark, uid, lock=True)
        check_benchmark(g.caller, values, benchmark)
        update(benchmark, values)
        return benchmark

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a benchmark and its associations; admins only."""
        benchmark = find(Benchmark, uid)
        # One after the other, so that the change log still knows whom to tell.
        remove(Association, Association.benchmark == uid)
        for row in db.session.scalars(select(BenchmarkMember).filter_by(benchmark=uid)):
            db.session.delete(row)
        db.session.flush()
        db.session.delete(benchmark)


@blueprint.route(f"/benchmarks/<{UID}:uid>/models/")
@of_owner(Benchmark)
@blueprint.arguments(PageQuery, location="query")
@blueprint.response(200, page_of(BenchmarkModelSchema))
def models(query: dict[str, Any], uid: int) -> dict[str, Any]:
    """The benchmark's associations with models; its owner or an admin."""
    told: list[Any] = [
        Association.model_mlcube,
        Association.approval_status,
        Association.created_at,
    ]
    found = select(*told).where(Association.benchmark == uid)
    return page(found, Association.id, query)
