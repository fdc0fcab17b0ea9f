"""The kinds of entities there are, one module each, and what holds for all of them.

Whoever lists, queues, sends, pulls or carries entities asks `KINDS`, and names none.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from medperf_client.kinds.association import ASSOCIATION
from medperf_client.kinds.benchmark import BENCHMARK
from medperf_client.kinds.container import CONTAINER
from medperf_client.kinds.dataset import DATASET
from medperf_client.kinds.dataset_association import DATASET_ASSOCIATION
from medperf_client.kinds.form import Entity
from medperf_client.kinds.invitation import INVITATION
from medperf_client.kinds.key import KEY
from medperf_client.kinds.kind import Kind
from medperf_client.kinds.models import MODELS
from medperf_client.kinds.ranking import RANKING
from medperf_client.kinds.result import RESULT
from medperf_client.kinds.submission import in_path
from medperf_client.kinds.user import USER

# By their names on the wire, what is referred to before what refers to it.
KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        *(KEY, CONTAINER, BENCHMARK, ASSOCIATION, INVITATION, MODELS),
        *(DATASET, DATASET_ASSOCIATION, RESULT, RANKING, USER),
    )
}
# Gives what stands for a UID of a kind: another one, or a reference to a queue entry.
Renamed = Callable[[str, int], Any]
# The name of an entity of a kind by its UID, if it is known.
NameOf = Callable[[str, Any], str | None]


def kind_of(name: str) -> Kind:
    """The kind of that name; of what only newer clients know, one with nothing but UIDs."""
    return KINDS.get(name) or Kind(name, name, {"id": int}, is_carried=False)


def unnamed(kind: str, uid: Any) -> None:
    """Names of nobody."""


def described(name: str, entity: Entity, name_of: NameOf = unnamed) -> str:
    """An entity in words: `container 5 (my-model)`, `request: container 5 in benchmark 1`."""
    kind = kind_of(name)
    if kind.sides:
        sides = [(kind.refers[side], entity.get(side)) for side in kind.sides]
        words = (_titled(kind_of(one).word, uid, name_of(one, uid)) for one, uid in sides)
        return f"{kind.word}: {' in '.join(words)}"
    return _titled(kind.word, entity.get("id"), entity.get("name") or entity.get("email"))


def _titled(word: str, uid: Any, name: Any) -> str:
    if uid is None:
        return f"{word} {name}" if name else word
    return f"{word} {uid} ({name})" if name else f"{word} {uid}"


def moment(entity: Entity, field: str = "modified_at") -> tuple[float, str]:
    """A time of an entity, to compare with another; texts that are none are equal if they are."""
    text = str(entity.get(field) or "")
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp(), ""
    except (ValueError, OverflowError):
        return 0.0, text


def holds(entity: Entity, body: Entity, *fields: str) -> bool:
    """Whether an entity has what a body says in these fields."""
    return all((entity.get(name) or "") == (body.get(name) or "") for name in fields)


def renamed(name: str, path: str, body: Entity, uid_of: Renamed) -> tuple[str, Entity]:
    """Path and body of a write of a kind with `uid_of` in place of every UID in them.

    For example `/mlcubes/5/benchmarks/1/` may become `/mlcubes/{q2}/benchmarks/1/`.
    """
    steps = path.split("/")
    for place, kind in _named(steps):
        if steps[place].isdecimal():
            steps[place] = in_path(uid_of(kind, int(steps[place])))
    refers = kind_of(name).refers
    changed = {
        field: uid_of(refers[field], value) if field in refers and isinstance(value, int) else value
        for field, value in body.items()
    }
    return "/".join(steps), changed


def named_in(path: str) -> Iterator[tuple[str, str]]:
    """The kinds and the UIDs, such as 17 or q1, of what a path names."""
    steps = path.split("/")
    return ((kind, steps[place]) for place, kind in _named(steps))


def _named(steps: list[str]) -> Iterator[tuple[int, str]]:
    kinds = {kind.step: kind.name for kind in KINDS.values() if kind.step}
    for place in range(1, len(steps)):
        if steps[place - 1] in kinds and re.fullmatch("q?[0-9]+", steps[place]):
            yield place, kinds[steps[place - 1]]


def sides_of(name: str, path: str, body: Entity) -> tuple[str, ...]:
    """What the sides of a pair that a write is about are; empty for what is no pair."""
    kind = kind_of(name)
    if not kind.sides:
        return ()
    in_its_path = dict(named_in(path))
    return tuple(str(body.get(side, in_its_path.get(kind.refers[side]))) for side in kind.sides)
