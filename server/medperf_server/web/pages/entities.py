"""Benchmarks and containers: tables to look through, and a page each."""

from typing import Any

from flask import abort, g, redirect, render_template, request, url_for
from sqlalchemy import func, or_, select

from medperf_server.api.common import UID, find, update
from medperf_server.approval import content_digest
from medperf_server.models import (
    APPROVED,
    PENDING,
    Association,
    Benchmark,
    BenchmarkMember,
    Container,
    User,
    db,
)
from medperf_server.policy import (
    check_benchmark,
    invited_user,
    own_associations,
    require_owner,
    visible,
)
from medperf_server.web.blueprint import blueprint
from medperf_server.web.notices import notify
from medperf_server.web.tables import HISTORY, history, newest, page_of
from medperf_server.web.words import refusals
from medperf_server.weights import without_json

ROLES = {
    "data_preparation_mlcube": "Data preparator",
    "reference_model_mlcube": "Reference model",
    "data_evaluator_mlcube": "Metrics",
}


@blueprint.get("/benchmarks/")
def benchmarks() -> Any:
    """The benchmarks the member may see."""
    sorts = {"id": Benchmark.id, "name": Benchmark.name, "created": Benchmark.created_at}
    page = page_of(
        Benchmark,
        visible(g.caller, Benchmark),
        {**sorts, "status": Benchmark.approval_status},
        (Benchmark.name, Benchmark.description),
        ("approval_status",),
    )
    return render_template("benchmarks.html", page=page)


@blueprint.get("/containers/")
def containers() -> Any:
    """All containers."""
    sorts = {"id": Container.id, "name": Container.name, "created": Container.created_at}
    page = page_of(
        Container,
        visible(g.caller, Container),
        {**sorts, "state": Container.state},
        (Container.name,),
        ("state", "owner"),
    )
    return render_template("containers.html", page=page)


@blueprint.get(f"/benchmarks/<{UID}:uid>")
def benchmark(uid: int) -> Any:
    """One benchmark: what it is, its containers and models, what was done to it."""
    found = find(Benchmark, uid)
    owns = g.caller.is_admin or found.owner == g.caller.id
    approved = select(func.count(Association.model_mlcube.distinct()))
    decides = g.caller.is_admin and found.approval_status == PENDING
    return render_template(
        "benchmark.html",
        benchmark=found,
        owns=owns,
        seen=content_digest(found) if decides else "",
        roles={
            title: db.session.get_one(
                Container, getattr(found, field), options=without_json(Container)
            )
            for field, title in ROLES.items()
        },
        models=db.session.scalar(approved.filter_by(benchmark=uid, approval_status=APPROVED)),
        associations=newest(
            Association, HISTORY, Association.benchmark == uid, own_associations(g.caller)
        ),
        members=_members(uid) if owns and found.is_private else [],
        history=history("benchmark", uid) if owns else [],
    )


@blueprint.get(f"/containers/<{UID}:uid>")
def container(uid: int) -> Any:
    """One container: what it is, where it takes part, what was done to it."""
    found = find(Container, uid)
    owns = g.caller.is_admin or found.owner == g.caller.id
    uses = [getattr(Benchmark, field) == uid for field in ROLES]
    return render_template(
        "container.html",
        container=found,
        owns=owns,
        used=newest(Benchmark, HISTORY, visible(g.caller, Benchmark), or_(*uses)),
        associations=newest(
            Association, HISTORY, Association.model_mlcube == uid, own_associations(g.caller)
        ),
        history=history("mlcube", uid) if owns else [],
    )


@blueprint.post(f"/benchmarks/<{UID}:uid>/privacy")
def change_privacy(uid: int) -> Any:
    """Show a benchmark to everyone, or to invited members only."""
    found = find(Benchmark, uid, lock=True)
    require_owner(g.caller, found)
    values = {"is_private": request.form.get("private") == "yes"}
    with refusals():
        check_benchmark(g.caller, values, found)
        update(found, values)
        notify(f"{found.name} is {'private' if found.is_private else 'public'} from now on.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/members")
def add_benchmark_member(uid: int) -> Any:
    """Show a private benchmark to another member."""
    found = find(Benchmark, uid, lock=True)
    require_owner(g.caller, found)
    with refusals():
        user = invited_user(g.caller, found, {"email": request.form.get("email", "").strip()})
        db.session.add(BenchmarkMember(benchmark=uid, user_id=user.id))
        db.session.flush()
        notify(f"{user.email} can see this benchmark from now on.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


@blueprint.post(f"/benchmarks/<{UID}:uid>/members/<{UID}:user_id>/remove")
def remove_benchmark_member(uid: int, user_id: int) -> Any:
    """Show a private benchmark to a member no longer."""
    require_owner(g.caller, find(Benchmark, uid))
    row = db.session.get(BenchmarkMember, (uid, user_id))
    if row is None:
        abort(404)
    db.session.delete(row)
    db.session.flush()
    notify("They cannot see this benchmark any more.")
    return redirect(url_for("web.benchmark", uid=uid), 303)


def _members(benchmark: int) -> list[User]:
    invited = select(BenchmarkMember.user_id).filter_by(benchmark=benchmark)
    return list(db.session.scalars(select(User).where(User.id.in_(invited)).order_by(User.email)))
