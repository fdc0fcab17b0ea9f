"""A plain MedPerf server: it knows no keys and keeps no log, so what is there is looked for."""

from collections.abc import Iterator

from medperf_cache.outbox import Entry
from medperf_client.kinds import KINDS, Entity, holds, kind_of, sides_of
from medperf_client.kinds.form import formed
from medperf_client.kinds.submission import REJECTED
from medperf_client.registry.client import Registry

# What a write says, and an entity does not hold: such a server keeps no reasons.
SAID = {"reason", "seen", "id"}


def listed(registry: Registry) -> Iterator[tuple[str, list[Entity]]]:
    """All that the registry shows its member, by kind. Raises as the registry does."""
    for kind in KINDS.values():
        if not kind.listed:
            continue
        found = list(registry.pages(kind.listed))
        if not kind.is_public and kind.mine not in ("", kind.listed):
            own = {one["id"]: one for one in registry.pages(kind.mine)}
            found = [own.pop(one["id"], one) for one in found] + list(own.values())
        if kind.sides:
            # Lists may carry no ID for a pair: the order stands in, with numbers that are nobody's.
            sides = dict.fromkeys(kind.sides, int)
            found = [
                {"id": -n, **formed(kind.word, sides, pair)} for n, pair in enumerate(found, 1)
            ]
        yield kind.name, [kind.checked(entity) for entity in found]


def of_pair(registry: Registry, entry: Entry, path: str, body: Entity) -> list[Entity]:
    """What the registry has of the pair that an entry is about."""
    kind = kind_of(entry.kind)
    uids = dict(zip(kind.sides, sides_of(entry.kind, path, body), strict=True))
    found = registry.get(kind.pair.format_map(uids))
    return found if isinstance(found, list) else []


def arrived(registry: Registry, entry: Entry, path: str, body: Entity) -> Entity | None:
    """What an earlier try made, found by what is unique about it; None if nothing is there."""
    kind = kind_of(entry.kind)
    kept = body.keys() - SAID
    if kind.sides:
        found = of_pair(registry, entry, path, body)
        newest = max(found, key=lambda one: str(one.get("created_at")), default={})
        if entry.method == "POST":
            mine = newest.get("initiated_by") == entry.member
            if entry.before is None:
                # Where nobody counted: after one that was rejected another may be asked for.
                is_new = newest.get("approval_status") != REJECTED
            else:
                is_new = len(found) > entry.before
            return newest if found and mine and is_new else None
        return newest if newest and holds(newest, body, *kept) else None
    if entry.method == "PUT":
        entity = registry.get(path)
        return entity if entity is not None and holds(entity, body, *kept) else None
    own = registry.pages(kind.mine or path)
    return next((one for one in own if holds(one, body, *kind.unique)), None)
