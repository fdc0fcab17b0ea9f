"""Notices are written in the transaction that causes them: both are there, or neither."""

from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from flask import g, has_request_context
from sqlalchemy import event, insert
from sqlalchemy.orm import Session, UOWTransaction

from medperf_server.base import db
from medperf_server.changes import touched
from medperf_server.kinds import kind_of
from medperf_server.kinds.kind import Kind, Pair
from medperf_server.notices.decisions import told_of_pair
from medperf_server.notices.events import News
from medperf_server.notices.table import Notice


@cache
def part_of(kind: Kind[Any]) -> ModuleType | None:
    """A kind's own `notices`: its EVENTS, and `told`, which says who is told of a change."""
    return kind.part("notices")


def _news(session: Session, action: str, entity: Any) -> Iterator[News]:
    kind = kind_of(type(entity))
    if kind is None:
        return
    if isinstance(kind, Pair):
        yield from told_of_pair(kind, session, action, entity)
    if part := part_of(kind):
        yield from part.told(session, action, entity)


def _rows(news: News) -> Iterator[dict[str, Any]]:
    caller = g.get("caller") if has_request_context() else None
    for member in sorted(set(news.members)):
        if news.all_the_same or caller is None or member != caller.id:
            yield {
                "user_id": member,
                "event": news.event.name,
                "entity_type": news.kind.name,
                "entity_id": news.uid,
                "facts": dict(news.facts),
            }


def _record(session: Session, _: UOWTransaction) -> None:
    with session.no_autoflush:
        rows = [
            row
            for action, entity in touched(session)
            for news in _news(session, action, entity)
            for row in _rows(news)
        ]
        if rows:
            session.connection().execute(insert(Notice.__table__), rows)


def init_app() -> None:
    """Write down what members are to be told with every flush of an entity."""
    if not event.contains(db.session, "after_flush", _record):
        event.listen(db.session, "after_flush", _record)
