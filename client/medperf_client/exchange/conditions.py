"""What an entry of the queue waits for: that something is so in the registry, as known here.

A condition is plain data, so that the queue stores it and a bundle carries it:

    {"kind": "association", "of": {"model_mlcube": 5, "benchmark": 1},
     "is": {"approval_status": "APPROVED"}}

`of` says which entities of a kind are meant; it may refer to entries of the queue. The newest of
them decides: a request that was rejected does not stand in the way of one that was approved later.
"""

from collections.abc import Iterable
from typing import Any

from medperf_cache.outbox import REFERENCE, is_reference
from medperf_client.kinds import KINDS, Entity, kind_of, moment

Condition = dict[str, Any]


def condition(kind: str, of: Entity, **fields: Any) -> Condition:
    """That the newest entity of a kind with the fields `of` has these `fields`."""
    return {"kind": kind, "of": of, "is": fields}


def is_met(wanted: Condition, entities: Iterable[Entity]) -> bool:
    """Whether it is so, among the entities of its kind; its references have become UIDs."""
    meant = [one for one in entities if _has(one, wanted["of"])]
    newest = max(meant, key=lambda one: moment(one, "created_at"), default=None)
    return newest is not None and _has(newest, wanted["is"])


def in_words(wanted: Condition) -> str:
    """For example `until dataset q1 in benchmark 1 is APPROVED`."""
    kind, of = kind_of(wanted["kind"]), wanted["of"]
    uids = {name: value[REFERENCE] if is_reference(value) else value for name, value in of.items()}
    if kind.sides and uids.keys() == set(kind.sides):
        what = " in ".join(f"{kind_of(kind.refers[side]).word} {uids[side]}" for side in kind.sides)
    elif uids.keys() == {"id"}:
        what = f"{kind.word} {uids['id']}"
    else:
        what = f"the {kind.word} with {', '.join(f'{name} {uid}' for name, uid in uids.items())}"
    fields = wanted["is"].items()
    return f"until {what} {' and '.join(_is(name, value) for name, value in fields)}"


def _is(name: str, value: Any) -> str:
    return f"is {value}" if name in ("approval_status", "state") else f"has {name} {value}"


def why(until: Condition | None) -> str:
    """Why an entry waits that was not sent yet."""
    return in_words(until) if until else ""


def check(wanted: Any) -> None:
    """Raise `ValueError` unless this is a condition."""
    sound = (
        isinstance(wanted, dict)
        and wanted.keys() == {"kind", "of", "is"}
        and wanted["kind"] in KINDS
        and bool(KINDS[wanted["kind"]].listed)
        and all(isinstance(wanted[part], dict) and wanted[part] for part in ("of", "is"))
        and all(_is_plain(value) or is_reference(value) for value in wanted["of"].values())
        and all(map(_is_plain, wanted["is"].values()))
    )
    if not sound:
        raise ValueError(f"{wanted!r} is no condition")


def _has(entity: Entity, fields: Entity) -> bool:
    return all(entity.get(name) == value for name, value in fields.items())


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, str))
