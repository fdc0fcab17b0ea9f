"""What the resources of pairs share: who may ask, what is between two, the decision."""

from typing import Any

from flask import abort, g
from sqlalchemy import select

from medperf_server.api.common import Wrapper, find, page, remove, role_first, update
from medperf_server.config import MAX_PAGE_SIZE
from medperf_server.kinds.kind import Entity, Pair
from medperf_server.kinds.pairs import between, check_decision, newest, own, require_side
from medperf_server.weights import bounded


def of_either_side(pair: Pair[Any]) -> Wrapper:
    """Have a view begin by asking for the owner of a side that its path names, or an admin.

    The path names sides by their titles. That the two have no association does not matter.
    """

    def require(**uids: int) -> None:
        require_side(g.caller, *(find(side.kind, uids[side.title]) for side in pair.sides))

    return role_first(require)


def all_between(pair: Pair[Entity], first: int, second: int) -> list[Entity]:
    """What there is between two, oldest first; the newest of it, where that is too much."""
    table: Any = pair.table
    found = select(table).where(between(pair, first, second))
    return bounded(found, table.id.desc(), MAX_PAGE_SIZE)[::-1]


def decide(pair: Pair[Entity], first: int, second: int, values: dict[str, Any]) -> Entity:
    """Decide the newest between two, or change what else of it can be; 404 if there is none."""
    entity = newest(pair, first, second)
    if entity is None:
        abort(404, "Not found.")
    check_decision(g.caller, pair, entity, values)
    update(entity, values)
    return entity


def remove_between(pair: Pair[Any], first: int, second: int) -> None:
    """Remove everything between two; 404 if there is nothing."""
    if not remove(pair.table, between(pair, first, second)):
        abort(404, "Not found.")


def mine(pair: Pair[Any], query: dict[str, Any]) -> dict[str, Any]:
    """A page of those with something of the caller's on either side."""
    table = pair.table
    return page(select(table).where(own(g.caller, pair)), table.id, query)
