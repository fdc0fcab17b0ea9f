"""`medperf-server audit`: who changed what."""

import json
from datetime import datetime, timezone
from typing import Any

import click

from medperf_server.cli.base import UID, json_option, registry, show

SHOWN = ("at", "actor", "address", "action", "entity_type", "entity_id", "changed")
WHO = ("id", "at", "user_id", "actor", "address", "request_id")
STORED = (*WHO, "action", "entity_type", "entity_id", "before", "after")


class Entity(click.ParamType):
    """A type of entity, or a type and an ID, as `benchmark/3`."""

    name = "type[/id]"

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[str, str]:
        """The type and the ID, which is empty if there is none."""
        if isinstance(value, tuple):
            return value
        kind, _, uid = value.partition("/")
        return kind, uid


@click.group()
def group() -> None:
    """The log of every change. It can be read, and nothing else."""


@group.command("ls")
@click.option("--actor", help="Changes by this member's e-mail address, or `command line`.")
@click.option("--entity", type=Entity(), help="Changes of these, as benchmark or benchmark/3.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="From this time on, UTC.",
)
@click.option("--action", type=click.Choice(("created", "updated", "deleted")))
@click.option(
    "--limit",
    type=UID,
    default=50,
    show_default=True,
    help="At most so many, the newest.",
)
@json_option
def ls(
    actor: str | None,
    entity: tuple[str, str] | None,
    since: datetime | None,
    action: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List changes, the newest last.

    \b
    Example:
      medperf-server audit ls --entity benchmark/3
      medperf-server audit ls --actor ada@example.org --since 2026-11-01
    """
    from sqlalchemy import func, select

    from medperf_server.base import db
    from medperf_server.models import AuditEntry

    statement = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if actor:
        statement = statement.where(func.lower(AuditEntry.actor) == actor.lower())
    if entity:
        statement = statement.where(AuditEntry.entity_type == entity[0])
        if entity[1]:
            statement = statement.where(AuditEntry.entity_id == entity[1])
    if since:
        statement = statement.where(AuditEntry.at >= since.replace(tzinfo=timezone.utc))
    if action:
        statement = statement.where(AuditEntry.action == action)
    with registry():
        rows = list(reversed(db.session.scalars(statement).all()))
        if as_json:
            show(rows, STORED, as_json)
            return
        for row in rows:
            row.changed = _changed(row.before, row.after)
        show(rows, SHOWN, as_json)


def _changed(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    """What an update changed, on one line."""
    if not before or not after:
        return ""
    pairs = ((name, json.dumps(before.get(name)), json.dumps(after[name])) for name in after)
    return ", ".join(f"{name}: {old} -> {new}" for name, old, new in pairs)
