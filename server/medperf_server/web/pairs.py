"""What pages of pairs share: a table of requests, what one's page shows, the decision on it."""

from collections.abc import Sequence
from typing import Any

from flask import abort, g, redirect, request, url_for
from marshmallow import Schema, ValidationError
from sqlalchemy import select

from medperf_server.api.pairs import decide
from medperf_server.base import PENDING, db
from medperf_server.kinds import pairs
from medperf_server.kinds.kind import Kind, Pair, Side
from medperf_server.policy import owns, visible
from medperf_server.readings import part
from medperf_server.web.blueprint import blueprint
from medperf_server.web.charts import Bar, bars
from medperf_server.web.notices import notify
from medperf_server.web.reports import others, side_by_side, steps
from medperf_server.web.tables import Page, history, newest, page_of
from medperf_server.web.words import refusals
from medperf_server.weights import without_json

EARLIER = 20


def requests_of(pair: Pair[Any]) -> Page:
    """The page of the requests that the caller may see, to be sorted and searched by both sides."""
    table, (_, joined) = pair.table, pair.sides
    names = {side.title: name_of(side) for side in pair.sides}
    sorts = {
        "id": table.id,
        **names,
        "status": table.approval_status,
        "created": table.created_at,
    }
    filters = ("approval_status", joined.column.key)
    return page_of(table, visible(g.caller, pair), sorts, list(names.values()), filters)


def name_of(side: Side) -> Any:
    """The name of what a row refers to on a side."""
    table: Any = side.kind.table
    return select(table.name).where(table.id == side.column).scalar_subquery()


def shown(pair: Pair[Any], uid: int) -> dict[str, Any]:
    """What the page of a request shows: both sides, the test it comes with, and its decision."""
    found = _find(pair, uid)
    first, second = pair.sides
    asked = db.session.get_one(
        first.kind.table,
        getattr(found, first.column.key),
        options=without_json(first.kind.table),
    )
    joined = second.of(db.session(), found)
    metrics = side_by_side(found.metadata_, joined.metadata_)
    timed = steps(found.metadata_, joined.metadata_)
    seconds = [time for step in timed for time in (step.seconds, step.reference)]
    between = pairs.between(pair, asked.id, joined.id)
    return {
        "pair": pair,
        "entity": found,
        first.kind.title: asked,
        second.kind.title: joined,
        "metrics": [(one, bars([one.value, one.reference])) for one in metrics],
        "others": others(part(found.metadata_, "test_result")),
        "steps": list(zip(timed, _two_by_two(bars(seconds)), strict=True)),
        "decides": found.approval_status == PENDING and newest(pair.table, 1, between) == [found],
        "requested": found.initiated_by == g.caller.id and asked.owner != joined.owner,
        "committee": owns(g.caller, joined),
        "earlier": newest(pair.table, EARLIER, between, pair.table.id != uid),
        "history": history(pair, uid),
    }


def decide_as_told(pair: Pair[Any], uid: int, schema: Schema) -> Any:
    """Approve or reject a request, or change what else of it a form says; then show it again."""
    found = _find(pair, uid)
    given: dict[str, Any] = {k: v for k, v in request.form.items() if k != "form_token"}
    with refusals():
        if "priority" in given:
            given = {"priority": _priority(given["priority"])}
        values = schema.load({**given, "id": uid})
        first, second = (getattr(found, side.column.key) for side in pair.sides)
        decide(pair, first, second, values)
        decided = f"The request is {found.approval_status.lower()}."
        notify("Saved." if "priority" in values else decided)
    return redirect(address(pair, uid), 303)


@blueprint.app_template_global()
def address(kind: Kind[Any], uid: int) -> str:
    """Where the page of an entity is."""
    return url_for(f"web.{kind.title.replace(' ', '_')}", uid=uid)


@blueprint.app_template_global()
def names_of(
    sides: Sequence[Side], entities: Sequence[Any]
) -> list[tuple[Side, str, dict[int, str]]]:
    """For each side its column, and the names of what entities refer to there by UID."""
    found = []
    for side in sides:
        table: Any = side.kind.table
        uids = {getattr(one, side.column.key) for one in entities}
        names = db.session.execute(select(table.id, table.name).where(table.id.in_(uids)))
        found.append((side, side.column.key, {uid: name for uid, name in names}))
    return found


def _find(pair: Pair[Any], uid: int) -> Any:
    table: Any = pair.table
    found = select(table).where(table.id == uid, visible(g.caller, pair))
    return db.session.scalar(found) or abort(404)


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValidationError("A priority is a whole number") from None


def _two_by_two(bars: list[Bar]) -> list[list[Bar]]:
    """Bars of what was measured, each with the one that it is compared to."""
    return [bars[at : at + 2] for at in range(0, len(bars), 2)]
