"""What the registry says of itself: version, documentation, changes."""

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Flask, Response, current_app, g
from sqlalchemy import select

from medperf_server.api.common import Blueprint, told
from medperf_server.base import db
from medperf_server.changes import counted, stands, visible_changes
from medperf_server.kinds import KINDS
from medperf_server.kinds.kind import Kind
from medperf_server.models import Change
from medperf_server.policy import visible
from medperf_server.schemas import ChangesQuery, ChangesSchema, VersionSchema
from medperf_server.weights import fitting, slices, weight

blueprint = Blueprint("service", __name__, description="The registry itself")

DOCS_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>MedPerf registry API</title>
<link rel="stylesheet" href="/static/style.css">
<h1>MedPerf registry API, v0</h1>
<p>The machine-readable description is <a href="openapi.json">openapi.json</a> (OpenAPI 3).
Send <code>Authorization: Bearer &lt;token&gt;</code>.</p><table>%s</table></html>"""


@blueprint.route("/version")
@blueprint.doc(security=[])
@blueprint.response(200, VersionSchema)
def version() -> dict[str, str]:
    """The API's version; needs no token."""
    return {"version": "v0"}


def init_app(app: Flask) -> None:
    """Have the version at the root, too, where MedPerf's clients look for it."""
    app.add_url_rule("/version", "root_version", version)


@blueprint.route("/docs")
@blueprint.doc(security=[])
@blueprint.response(200, content_type="text/html")
def docs() -> Response:
    """A page that lists every path and method."""
    rows = sorted(
        f"<tr><td><code>{method}</code><td><code>{rule.rule.replace('<', '&lt;')}</code>"
        f"<td>{(current_app.view_functions[rule.endpoint].__doc__ or '').strip()}"
        for rule in current_app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        if rule.rule.startswith("/api/")
    )
    return Response(DOCS_PAGE % "\n".join(rows), mimetype="text/html")


@blueprint.route("/changes/")
@blueprint.arguments(ChangesQuery, location="query")
@blueprint.response(200, ChangesSchema)
def changes(query: dict[str, Any]) -> dict[str, Any]:
    """What changed after the cursor `since` and the caller may see, oldest first.

    Each row carries the entity as it is now, null once it is deleted or the caller may not see it.
    Ask again with `next` as `since` and `log` as it came: at once if there is `more`, which comes
    before `limit` rows where entities are large. The answer is `reset` alone where this log has not
    the past that led there: read everything again, from 0.
    """
    since, limit = query["since"], query["limit"]
    # The counter is read first: rows up to it have been committed, so `next` can go past what the
    # caller may not see without going past a row that is yet to come.
    counter = counted()
    if not stands(since, query.get("log"), counter):
        return {"reset": True}
    end = counter.value
    rows = db.session.scalars(
        select(Change)
        .where(Change.cursor > since, Change.cursor <= end, visible_changes(g.caller))
        .order_by(Change.cursor)
        .limit(limit + 1)
    ).all()
    # An entity is in the answer as often as it changed.
    shown = fitting(zip(rows[:limit], _weights(rows[:limit]), strict=True))
    more = len(rows) > len(shown)
    entities = _entities(shown)
    return {
        "changes": [
            {
                "cursor": row.cursor,
                "type": row.entity_type,
                "id": row.entity_id,
                "action": row.action,
                "entity": entities.get((row.entity_type, row.entity_id)),
            }
            for row in shown
        ],
        "next": shown[-1].cursor if more else end,
        "more": more,
        "log": shown[-1].digest if more else counter.digest,
    }


def _weights(rows: Sequence[Change]) -> Iterator[int]:
    """How much of an answer the entity takes that each row names (see `weights`)."""
    for start, end in slices(len(rows)):
        weights = _weights_of_entities(rows[start:end])
        yield from (weights.get((row.entity_type, row.entity_id), 0) for row in rows[start:end])


def _weights_of_entities(rows: Sequence[Change]) -> dict[tuple[str, int], int]:
    found = {}
    for kind, uids in _named(rows):
        weighed = weight(kind.table)  # type: ignore[arg-type]
        if weighed is not None:
            uid = kind.table.__table__.c.id
            weights = db.session.connection().execute(select(uid, weighed).where(uid.in_(uids)))
            found.update({(kind.name, uid): size for uid, size in weights})
    return found


def _entities(rows: Sequence[Change]) -> dict[tuple[str, int], dict[str, Any]]:
    """What of the entities that the rows name the caller may see, as it is; one query a kind."""
    found = {}
    for kind, uids in _named(rows):
        seen = select(kind.table).where(kind.table.id.in_(uids), visible(g.caller, kind))
        for entity in db.session.scalars(seen):
            found[kind.name, entity.id] = told(kind, entity)
    return found


def _named(rows: Sequence[Change]) -> Iterator[tuple[Kind[Any], set[int]]]:
    """The kinds and UIDs of the entities that rows name."""
    for kind in KINDS:
        if uids := {row.entity_id for row in rows if row.entity_type == kind.name}:
            yield kind, uids
