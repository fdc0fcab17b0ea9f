"""Benchmarks: all of them, one, the caller's."""

from typing import Any

from flask import g
from flask.views import MethodView

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    listed,
    of_admins,
    of_owner,
    page_of,
    remove_entity,
    update,
)
from medperf_server.kinds.benchmark import BENCHMARK, members
from medperf_server.kinds.benchmark.rules import check_benchmark
from medperf_server.kinds.benchmark.schemas import (
    BenchmarkQuery,
    BenchmarkSchema,
    SeenBenchmarkSchema,
)
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.user.resource import me

blueprint = Blueprint("benchmarks", __name__, description="Benchmarks")
blueprints = (blueprint, members.blueprint)


@blueprint.route("/benchmarks/")
class BenchmarksView(MethodView):
    """All benchmarks."""

    @blueprint.arguments(BenchmarkQuery, location="query")
    @blueprint.response(200, page_of(BenchmarkSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All benchmarks."""
        return listed(BENCHMARK, query)

    @blueprint.arguments(BenchmarkSchema)
    @blueprint.response(201, BenchmarkSchema)
    def post(self, values: dict[str, Any]) -> Benchmark:
        """Create a benchmark that the caller owns; it starts as PENDING."""
        check_benchmark(g.caller, values)
        return add(Benchmark(**values, owner=g.caller.id))


@blueprint.route(f"/benchmarks/<{UID}:uid>/")
class BenchmarkView(MethodView):
    """One benchmark."""

    @blueprint.response(200, BenchmarkSchema)
    def get(self, uid: int) -> Benchmark:
        """One benchmark."""
        return find(BENCHMARK, uid)

    @of_owner(BENCHMARK)
    @blueprint.arguments(SeenBenchmarkSchema(partial=True))
    @blueprint.response(200, BenchmarkSchema)
    def put(self, values: dict[str, Any], uid: int) -> Benchmark:
        """Change a benchmark; its owner or an admin. Only an admin approves or rejects.

        With `seen`, the digest of what they looked at, it is refused where that has changed since.
        """
        benchmark = find(BENCHMARK, uid, lock=True)
        check_benchmark(g.caller, values, benchmark)
        update(benchmark, values)
        return benchmark

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a benchmark and its associations; admins only."""
        remove_entity(BENCHMARK, uid)


@me.route("/me/benchmarks/")
@me.arguments(BenchmarkQuery, location="query")
@me.response(200, page_of(BenchmarkSchema))
def my_benchmarks(query: dict[str, Any]) -> dict[str, Any]:
    """The caller's benchmarks."""
    return listed(BENCHMARK, {**query, "owner": g.caller.id})
