"""What a queue holds, in words for people."""

from collections.abc import Iterable, Iterator
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import Entry
from medperf_client.kinds import Entity, described, kind_of, named_in, sides_of

# What of a change is worth a word, and how it is said.
CHANGES = {
    "approval_status": "{}",
    "state": "{}",
    "priority": "priority {}",
    "report": "its progress",
}


class Words:
    """Says what entries are, with the names that a queue and a catalog know."""

    def __init__(self, entries: Iterable[Entry], catalog: Catalog) -> None:
        self._queued = {entry.uid: entry.body.get("name") for entry in entries}
        self._catalog = catalog

    def __call__(self, entry: Entry) -> str:
        """What an entry makes, or what it changes, and to what.

        For example `request: container q1 (gap) in benchmark 1 (breast-cancer)`.
        """
        path, body = entry.resolved(lambda uid: uid)
        kind = kind_of(entry.kind)
        named = [
            described(one, {"id": uid, "name": self._name(one, uid)}) for one, uid in named_in(path)
        ]
        if kind.sides:
            sides = dict(zip(kind.sides, sides_of(kind.name, path, body), strict=True))
            what = described(kind.name, sides, self._name)
        elif entry.method == "PUT":
            what = named[-1] if named else path
        else:
            made = described(kind.name, {name: body.get(name) for name in ("name", "email")})
            what = " to ".join([made, *named])
        told = [*_changes(entry.method, body, entry.answer or {})]
        return f"{what}: {', '.join(told)}" if told else what

    def _name(self, kind: str, uid: Any) -> Any:
        """The name of an entity by its UID, or by that of the entry that makes it."""
        if str(uid).isdecimal():
            return (self._catalog.get(kind, int(uid)) or {}).get("name")
        return self._queued.get(str(uid))


def _changes(method: str, body: Entity, answer: Entity) -> Iterator[str]:
    """What a write changes; of what is sent, also what the registry made of it."""
    for field, word in CHANGES.items():
        # A request may be decided as it comes.
        if field in body and (method == "PUT" or answer.get(field, body[field]) != body[field]):
            yield word.format(answer.get(field, body[field]))
    if answer and body.get("reason") and answer.get("reason") != body["reason"]:
        yield "this registry keeps no reasons"
