"""What an event is that members may be told of; a kind's own are in its folder, in `notices`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from medperf_server.kinds.kind import Kind

if TYPE_CHECKING:  # The table's module asks for the whole list of tables.
    from medperf_server.notices.table import Notice

# When a member is mailed of an event.
CHOICES = AT_ONCE, DAILY, NEVER = "at_once", "daily", "never"

# What a notice of something says, as it is now; None if there is nothing to tell any more.
Words = Callable[[Session, "Notice", Any], str | None]
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Event:
    """Something that members choose to be mailed of."""

    # On the wire; for people.
    name: str
    title: str
    # When members are mailed of it who never chose.
    usual: str
    words: Words
    # The path of the page that lists what it is of, for what has no page of its own.
    listed: str = "/"


@dataclass(frozen=True)
class News:
    """Who is to be told of an event, and of what: an entity of a kind, and a few facts as of now.

    Whoever made it happen is left out, unless `all_the_same`.
    """

    event: Event
    members: Iterable[int]
    kind: Kind[Any]
    uid: int
    facts: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    all_the_same: bool = False


def called(title: str, entity: Any) -> str:
    """What something is called in a notice, such as `model "chexnet" (7)`."""
    return f'{title} "{entity.name}" ({entity.id})' if entity.name else f"{title} {entity.id}"


def changed(entity: Any) -> dict[str, tuple[Any, Any]]:
    """What a flush has changed of an entity: by attribute, as it was and as it is."""
    histories = {one.key: one.history for one in inspect(entity).attrs}
    return {
        name: (history.deleted[0] if history.deleted else None, getattr(entity, name))
        for name, history in histories.items()
        if history.has_changes()
    }
