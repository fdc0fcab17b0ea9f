"""Benchmarks: a table to look through, a page each, and what is decided on it."""

from typing import Any

from flask import abort, g, redirect, render_template, request, url_for
from sqlalchemy import func, select

from medperf_server.api.common import UID, add, find, update
from medperf_server.base import APPROVED, db
from medperf_server.kinds import pairs
from medperf_server.kinds.association import ASSOCIATION
from medperf_server.kinds.association.table import Association
from medperf_server.kinds.benchmark import BENCHMARK
from medperf_server.kinds.benchmark.approval import content_digest
from medperf_server.kinds.benchmark.members import uninvite
from medperf_server.kinds.benchmark.rules import check_benchmark, decides, invited_user
from medperf_server.kinds.benchmark.schemas import BenchmarkSchema, SeenBenchmarkSchema
from medperf_server.kinds.benchmark.table import Benchmark, BenchmarkMember
from medperf_server.kinds.container.table import Container
from medperf_server.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_server.kinds.dataset_association.table import DatasetAssociation
from medperf_server.kinds.result import RESULT
from medperf_server.kinds.result.table import Result
from medperf_server.kinds.user.table import User
from medperf_server.policy import owns, require_admin, require_owner, visible
from medperf_server.web.blueprint import blueprint
from medperf_server.web.notices import notify
from medperf_server.web.tables import HISTORY, entities, history, newest
from medperf_server.web.words import refusals
from medperf_server.weights import without_json

TITLES = {
    "data_preparation_mlcube": "Data preparator",
    "reference_model_mlcube": "Reference model",
    "data_evaluator_mlcube": "Metrics",
}


@blueprint.get("/benchmarks/")
def benchmarks() -> Any:
    """The benchmarks the member may see."""
    sorts = {"status": Benchmark.approval_status}
    searched = (Benchmark.name, Benchmark.description)
    page = entities(BENCHMARK, sorts, searched, ("approval_status",))
    return render_template("benchmarks.html", page=page)


@blueprint.get(f"/benchmarks/<{UID}:uid>")
def benchmark(uid: int) -> Any:
    """One benchmark: what it is, its containers and models, what was done to it."""
    found = find(BENCHMARK, uid)
    approved = select(func.count(Association.model_mlcube.distinct()))
    own = owns(g.caller, found)
    return render_template(
        "benchmark.html",
        benchmark=found,
        owns=own,
        seen=content_digest(found) if decides(g.caller, found) else "",
        roles={
            title: db.session.get_one(
                Container, getattr(found, field), options=without_json(Container)
            )
            for field, title in TITLES.items()
        },
        models=db.session.scalar(approved.filter_by(benchmark=uid, approval_status=APPROVED)),
        pair=ASSOCIATION,
        associations=newest(
            Association, HISTORY, Association.benchmark == uid, pairs.own(g.caller, ASSOCIATION)
        ),
        data_pair=DATASET_ASSOCIATION,
        data_requests=newest(
            DatasetAssociation,
            HISTORY,
            DatasetAssociation.benchmark == uid,
            pairs.own(g.caller, DATASET_ASSOCIATION),
        ),
        results=db.session.scalar(
            select(func.count(Result.id)).where(Result.benchmark == uid, visible(g.caller, RESULT))
        ),
        members=_members(uid) if own and found.is_private else [],
        history=history(BENCHMARK, uid) if own else [],
    )


@blueprint.post(f"/benchmarks/<{UID}:uid>/decide")
def decide_benchmark(uid: int) -> Any:
    """Approve or reject a benchmark, as the page showed it that the form is on."""
    require_admin(g.caller)
    benchmark = find(BENCHMARK, uid, lock=True)
    given = {name: request.form.get(name, "") for name in ("approval_status", "seen")}
    with refusals():
        values = SeenBenchmarkSchema(partial=True).load(given)
        check_benchmark(g.caller, values, benchmark)
        update(benchmark, values)
        notify(f"{benchmark.name} is {benchmark.approval_status.lower()}.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/privacy")
def change_privacy(uid: int) -> Any:
    """Show a benchmark to everyone, or to invited members only."""
    found = find(BENCHMARK, uid, lock=True)
    require_owner(g.caller, found)
    values = {"is_private": request.form.get("private") == "yes"}
    with refusals():
        check_benchmark(g.caller, values, found)
        update(found, values)
        notify(f"{found.name} is {'private' if found.is_private else 'public'} from now on.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/ranking")
def change_ranking(uid: int) -> Any:
    """Say who sees the ranking of a benchmark's models, from when, and with which names."""
    found = find(BENCHMARK, uid, lock=True)
    require_owner(g.caller, found)
    given = {name: request.form.get(name, "") for name in ("ranking_audience", "ranking_sites")}
    published = request.form.get("ranking_published") == "yes"
    with refusals():
        schema = BenchmarkSchema(partial=True)
        values = schema.load({**given, "ranking_published": published})
        check_benchmark(g.caller, values, found)
        update(found, values)
        notify(f"The ranking is {'published' if published else 'not published'}.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/members")
def add_benchmark_member(uid: int) -> Any:
    """Show a private benchmark to another member."""
    found = find(BENCHMARK, uid, lock=True)
    require_owner(g.caller, found)
    with refusals():
        user = invited_user(g.caller, found, {"email": request.form.get("email", "").strip()})
        add(BenchmarkMember(benchmark=uid, user_id=user.id))
        notify(f"{user.email} can see this benchmark from now on.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/members/<{UID}:user_id>/remove")
def remove_benchmark_member(uid: int, user_id: int) -> Any:
    """Show a private benchmark to a member no longer."""
    require_owner(g.caller, find(BENCHMARK, uid))
    if not uninvite(uid, user_id):
        abort(404)
    notify("They cannot see this benchmark any more.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.app_template_global()
def benchmark_to_try() -> int | None:
    """The newest approved benchmark that the member may see, for commands that need one."""
    seen = select(Benchmark.id).where(visible(g.caller, BENCHMARK))
    newest = seen.filter_by(approval_status=APPROVED).order_by(Benchmark.id.desc())
    return db.session.scalar(newest.limit(1))


def _members(benchmark: int) -> list[User]:
    invited = select(BenchmarkMember.user_id).filter_by(benchmark=benchmark)
    return list(db.session.scalars(select(User).where(User.id.in_(invited)).order_by(User.email)))
