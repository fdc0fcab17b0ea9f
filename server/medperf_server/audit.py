"""The audit log: who changed what, when and from where, in the transaction that changes it."""

import hashlib
import json
from datetime import datetime
from typing import Any

from flask import g, has_request_context, request
from sqlalchemy import event, insert, inspect
from sqlalchemy.orm import Session, UOWTransaction

from medperf_server.base import Base, alike, db, utc_now
from medperf_server.changes import touched
from medperf_server.kinds import KINDS, circles
from medperf_server.kinds.user.table import User
from medperf_server.links import LinkSecret
from medperf_server.models import Asset, AssetHolder, AuditEntry, Invitation, Token
from medperf_server.notices.table import NoticeChoice, NoticeFeed

OWN_TYPES: dict[type[Base], str] = {
    Token: "token",
    Invitation: "invitation",
    Asset: "asset",
    AssetHolder: "asset_holder",
    LinkSecret: "links",
    NoticeChoice: "notice_choice",
    NoticeFeed: "notice_feed",
}
# What would let a reader of the log in, and what changes by itself or with another column.
LEFT_OUT = {"digest", "secret", "modified_at", "username_key", "email_key"}
# Test reports may have megabytes: of what is longer than this the log keeps size and SHA-256.
MOST_BYTES = 4096
COMMAND_LINE = "command line"

Values = dict[str, Any]


def entity_types() -> dict[type[Base], str]:
    """What is logged, by the name that the log has for it."""
    kinds = {kind.table: kind.name for kind in KINDS}
    invited = {circle.table: f"{kind.name}_member" for kind, circle in circles()}
    return OWN_TYPES | kinds | invited


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    text = json.dumps(value)
    if len(text) > MOST_BYTES:
        return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}
    return value


def _differences(entity: Base, action: str) -> tuple[Values | None, Values | None]:
    """The columns that change, before and after; all of them for what is new or gone."""
    state = inspect(entity)
    before: Values = {}
    after: Values = {}
    for column in state.mapper.column_attrs:
        if column.columns[0].name in LEFT_OUT:
            continue
        name, history = column.columns[0].name, state.attrs[column.key].history
        new = _json(getattr(entity, column.key))
        old = _json(history.deleted[0]) if history.deleted else new
        if action == "updated" and (not history.has_changes() or alike(old, new)):
            continue
        before[name], after[name] = old, new
    return (None if action == "created" else before), (None if action == "deleted" else after)


def _actor() -> Values:
    if not has_request_context():
        return {"user_id": None, "actor": COMMAND_LINE}
    known = {"address": request.remote_addr or "", "request_id": g.get("request_id", "")}
    caller = g.get("caller")
    if caller is None:
        return {"user_id": None, "actor": "anonymous", **known}
    with db.session.no_autoflush:
        user = db.session.get(User, caller.id)
    return {"user_id": caller.id, "actor": user.email if user else "", **known}


def _log(session: Session, _: UOWTransaction) -> None:
    names = entity_types()
    for action, entity in touched(session):
        kind = names.get(type(entity))
        if kind is None:
            continue
        before, after = _differences(entity, action)
        if action == "updated" and not after:
            continue
        key = inspect(entity).mapper.primary_key_from_instance(entity)
        session.execute(
            insert(AuditEntry).values(
                **_actor(),
                at=utc_now(),
                action=action,
                entity_type=kind,
                entity_id="/".join(map(str, key)),
                before=before,
                after=after,
            )
        )


def init_app() -> None:
    """Log every flush of an audited entity."""
    if not event.contains(db.session, "after_flush", _log):
        event.listen(db.session, "after_flush", _log)
