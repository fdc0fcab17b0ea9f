"""Results: a table of those that the member may see, and a page each."""

from typing import Any

from flask import abort, g, render_template
from sqlalchemy import select

from medperf_server.api.common import UID
from medperf_server.base import db
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark.table import Benchmark
from medperf_server.kinds.key.table import Key
from medperf_server.kinds.pairs import between
from medperf_server.kinds.result import MODEL, PARTIES, RESULT, leaderboard
from medperf_server.kinds.result.table import Result
from medperf_server.kinds.result.verdicts import reviewers
from medperf_server.policy import visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.charts import bars
from medperf_server.web.disclosures import disclosure_of
from medperf_server.web.pairs import name_of
from medperf_server.web.reports import others, side_by_side
from medperf_server.web.tables import history, page_of

# Importing it registers its route.
__all__ = ["leaderboard"]

SIDES = (MODEL, *PARTIES)


@blueprint.get("/results/")
def results() -> Any:
    """Results on the member's datasets and in their benchmarks; all of them for admins."""
    names = {side.title: name_of(side) for side in SIDES}
    sorts = {"id": Result.id, **names, "created": Result.created_at}
    filters = tuple(side.column.key for side in SIDES)
    page = page_of(Result, visible(g.caller, RESULT), sorts, list(names.values()), filters)
    return render_template("results.html", page=page, sides=SIDES)


@blueprint.get(f"/results/<{UID}:uid>")
def result(uid: int) -> Any:
    """One result: what the model achieved on the data, beside its test on the demo data."""
    seen = select(Result).where(Result.id == uid, visible(g.caller, RESULT))
    found = db.session.scalar(seen) or abort(404)
    metrics = side_by_side({"test_result": found.results}, _test(found))
    return render_template(
        "result.html",
        result=found,
        sides=SIDES,
        signed_by=db.session.scalar(select(Key).where(Key.keyid == found.signed_by)),
        reviewers=reviewers(found.metadata_) if found.signed_by else [],
        metrics=[(one, bars([one.value, one.reference])) for one in metrics],
        others=others(found.results),
        disclosure=disclosure_of(found.metadata_),
        history=history(RESULT, uid),
    )


def _test(result: Result) -> Any:
    """What came of the test of a result's model on the benchmark's demo data."""
    benchmark = db.session.get_one(Benchmark, result.benchmark)
    if result.model == benchmark.reference_model_mlcube:
        return benchmark.metadata_
    pair = between(ASSOCIATION, result.model, result.benchmark)
    newest = select(Association.metadata_).where(pair).order_by(Association.id.desc())
    return db.session.scalar(newest.limit(1))
