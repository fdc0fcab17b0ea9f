"""What a queue holds, in words for people."""

from collections.abc import Iterable
from typing import Any

from medperf_cache import Catalog
from medperf_cache.outbox import Entry
from medperf_client.kinds import described, kind_of, named_in, sides_of

# What of a change is worth a word, and how it is said.
CHANGES = {"approval_status": "{}", "priority": "priority {}"}


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
        told = CHANGES.items() if entry.method == "PUT" else ()
        changed = [word.format(body[field]) for field, word in told if field in body]
        return f"{what}: {', '.join(changed)}" if changed else what

    def _name(self, kind: str, uid: Any) -> Any:
        """The name of an entity by its UID, or by that of the entry that makes it."""
        if str(uid).isdecimal():
            return (self._catalog.get(kind, int(uid)) or {}).get("name")
        return self._queued.get(str(uid))
