"""Requests to take a model into a benchmark: a table, a page each, and the decision."""

from typing import Any

from flask import abort, g, redirect, render_template, request, url_for
from marshmallow import ValidationError
from sqlalchemy import and_, select

from medperf_server.api.common import UID, update
from medperf_server.models import PENDING, Association, Benchmark, Container, db
from medperf_server.policy import (
    check_association_update,
    newest_association,
    own_associations,
    visible,
)
from medperf_server.schemas import AssociationUpdateSchema
from medperf_server.web.blueprint import blueprint
from medperf_server.web.charts import Bar, bars
from medperf_server.web.notices import notify
from medperf_server.web.reports import others, part, side_by_side, steps
from medperf_server.web.tables import history, newest, page_of
from medperf_server.web.words import refusals
from medperf_server.weights import without_json

MODEL_NAME = (
    select(Container.name).where(Container.id == Association.model_mlcube).scalar_subquery()
)
BENCHMARK_NAME = (
    select(Benchmark.name).where(Benchmark.id == Association.benchmark).scalar_subquery()
)


def _shown() -> Any:
    """The requests the member may see: of all benchmarks for admins, else those of their own."""
    seen = visible(g.caller, Association)
    return seen if g.caller.is_admin else and_(seen, own_associations(g.caller))


@blueprint.get("/associations/")
def associations() -> Any:
    """Requests of the member's models and benchmarks."""
    sorts = {
        "id": Association.id,
        "model": MODEL_NAME,
        "benchmark": BENCHMARK_NAME,
        "status": Association.approval_status,
        "created": Association.created_at,
    }
    filters = ("approval_status", "benchmark")
    page = page_of(Association, _shown(), sorts, (MODEL_NAME, BENCHMARK_NAME), filters)
    return render_template("associations.html", page=page)


@blueprint.get(f"/associations/<{UID}:uid>")
def association(uid: int) -> Any:
    """One request: the test it comes with, and its decision."""
    found = _find(uid)
    container = db.session.get_one(Container, found.model_mlcube, options=without_json(Container))
    benchmark = db.session.get_one(Benchmark, found.benchmark)
    metrics = side_by_side(found.metadata_, benchmark.metadata_)
    timed = steps(found.metadata_, benchmark.metadata_)
    seconds = [time for step in timed for time in (step.seconds, step.reference)]
    pair = (Association.model_mlcube == container.id, Association.benchmark == benchmark.id)
    return render_template(
        "association.html",
        association=found,
        container=container,
        benchmark=benchmark,
        metrics=[(one, bars([one.value, one.reference])) for one in metrics],
        others=others(part(found.metadata_, "test_result")),
        steps=list(zip(timed, _pairs(bars(seconds)), strict=True)),
        decides=found.approval_status == PENDING and newest(Association, 1, *pair) == [found],
        requested=found.initiated_by == g.caller.id,
        committee=g.caller.is_admin or benchmark.owner == g.caller.id,
        earlier=newest(Association, 20, *pair, Association.id != uid),
        history=history("association", uid),
    )


@blueprint.post(f"/associations/<{UID}:uid>")
def decide_association(uid: int) -> Any:
    """Approve, reject, or set the priority of a request."""
    found = _find(uid)
    given: dict[str, Any] = {k: v for k, v in request.form.items() if k != "form_token"}
    with refusals():
        if "priority" in given:
            given = {"priority": _priority(given["priority"])}
        values = AssociationUpdateSchema().load({**given, "id": uid})
        newest_one = newest_association(found.model_mlcube, found.benchmark) or abort(404)
        check_association_update(g.caller, newest_one, values)
        update(newest_one, values)
        decided = f"The request is {found.approval_status.lower()}."
        notify("Saved." if "priority" in values else decided)
    return redirect(url_for("web.association", uid=uid), 303)


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValidationError("A priority is a whole number") from None


def _find(uid: int) -> Association:
    found = db.session.scalar(select(Association).where(Association.id == uid, _shown()))
    return found or abort(404)


def _pairs(bars: list[Bar]) -> list[list[Bar]]:
    """Bars two by two: of a model and of the reference model."""
    return [bars[at : at + 2] for at in range(0, len(bars), 2)]
