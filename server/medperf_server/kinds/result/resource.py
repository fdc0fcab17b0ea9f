"""Results: all of them, one, the caller's, a benchmark's; and its models ranked by them."""

from typing import Any

from flask import g
from flask.views import MethodView
from sqlalchemy import select

from medperf_server.api.common import (
    UID,
    Blueprint,
    add,
    find,
    listed,
    named_in_body,
    of_admins,
    of_owner,
    page,
    page_of,
    remove_entity,
    role_first,
    update,
)
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.metrics import HIGHER, LOWER
from medperf_server.kinds.benchmark.resource import blueprint as benchmarks
from medperf_server.kinds.dataset.rules import require_dataset_owner
from medperf_server.kinds.result import RESULT
from medperf_server.kinds.result.achieved import Choice
from medperf_server.kinds.result.ranking import Ranking, ranking_of
from medperf_server.kinds.result.rules import (
    check_change,
    check_result,
    require_party,
    require_sight,
)
from medperf_server.kinds.result.schemas import (
    RankingQuery,
    RankingSchema,
    ResultSchema,
    ResultUpdateSchema,
)
from medperf_server.kinds.result.table import Result
from medperf_server.kinds.user.resource import me
from medperf_server.policy import refuse
from medperf_server.schemas import PageQuery

blueprint = Blueprint("results", __name__, description="Results")
blueprints = (blueprint,)


@blueprint.route("/results/")
class ResultsView(MethodView):
    """All results."""

    @of_admins
    @blueprint.arguments(PageQuery, location="query")
    @blueprint.response(200, page_of(ResultSchema))
    def get(self, query: dict[str, Any]) -> dict[str, Any]:
        """All results, for admins."""
        return listed(RESULT, query)

    @role_first(lambda: require_dataset_owner(g.caller, named_in_body("dataset")))
    @blueprint.arguments(ResultSchema)
    @blueprint.response(201, ResultSchema)
    def post(self, values: dict[str, Any]) -> Result:
        """Send a result in; the owner of its dataset or an admin."""
        check_result(g.caller, values)
        return add(Result(**values, owner=g.caller.id))


@blueprint.route(f"/results/<{UID}:uid>/")
class ResultView(MethodView):
    """One result."""

    @role_first(lambda uid: require_party(g.caller, uid))
    @blueprint.response(200, ResultSchema)
    def get(self, uid: int) -> Result:
        """One result; the owner of its dataset or of its benchmark, or an admin."""
        return find(RESULT, uid)

    @of_admins
    @of_owner(RESULT)
    @blueprint.arguments(ResultUpdateSchema(partial=True))
    @blueprint.response(200, ResultSchema)
    def put(self, values: dict[str, Any], uid: int) -> Result:
        """Change what is said of a result, never the result itself; admins only."""
        result = find(RESULT, uid, lock=True)
        check_change(values, result)
        update(result, values)
        return result

    @of_admins
    @blueprint.response(204)
    def delete(self, uid: int) -> None:
        """Remove a result; admins only."""
        remove_entity(RESULT, uid)


@me.route("/me/results/")
@me.arguments(PageQuery, location="query")
@me.response(200, page_of(ResultSchema))
def my_results(query: dict[str, Any]) -> dict[str, Any]:
    """The results that the caller sent in."""
    return listed(RESULT, {**query, "owner": g.caller.id})


@benchmarks.route(f"/benchmarks/<{UID}:uid>/results/")
@of_owner(BENCHMARK)
@benchmarks.arguments(PageQuery, location="query")
@benchmarks.response(200, page_of(ResultSchema))
def results(query: dict[str, Any], uid: int) -> dict[str, Any]:
    """The results of a benchmark; its owner or an admin."""
    return page(select(Result).filter_by(benchmark=uid), Result.id, query)


@benchmarks.route(f"/benchmarks/<{UID}:uid>/ranking/")
@role_first(lambda uid: require_sight(g.caller, find(BENCHMARK, uid)))
@benchmarks.arguments(RankingQuery, location="query")
@benchmarks.response(200, RankingSchema)
def ranking(query: dict[str, Any], uid: int) -> Ranking:
    """The benchmark's models by a metric at sites, as far as its committee shows it.

    Its owner sees all of it, a data owner always their own results.
    """
    found = ranking_of(find(BENCHMARK, uid), g.caller, Choice(**query))
    if query["metric"] not in ("", found.metric.name):
        there = ", ".join(found.names) or "none"
        refuse(f"There is no metric {query['metric']!r}; there are: {there}", "metric")
    higher_is_better = found.metric.higher_is_better
    if found.metric.is_described and query["better"] == (LOWER if higher_is_better else HIGHER):
        better = HIGHER if higher_is_better else LOWER
        refuse(f"Of {found.metric.name!r} the benchmark says that {better} is better", "better")
    return found
