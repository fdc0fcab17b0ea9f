"""The last known copy of a registry's entities, with the cursor to ask for what changed since."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medperf_cache.disk import open_store

Entity = dict[str, Any]


def _key(kind: str, uid: int) -> str:
    """A key that sorts as UIDs do."""
    return f"{kind}/{uid:020d}"


class Catalog:
    """Entities by type and UID, as the registry sent them.

    A block under `transaction` is seen by other processes whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self._store = open_store(folder)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all writes of the block together, or none if it raises."""
        with self._store.transact(retry=True):
            yield

    def get(self, kind: str, uid: int) -> Entity | None:
        """One entity, or None."""
        entity: Entity | None = self._store.get(_key(kind, uid))
        return entity

    def count(self, kind: str) -> int:
        """How many entities of a type there are."""
        return self._store.count_prefix(f"{kind}/")

    def newest(self, kind: str, limit: int) -> list[Entity]:
        """The entities of a type with the highest UIDs, at most `limit`, by UID."""
        found = self._store.with_prefix(f"{kind}/", last=limit)
        return [entity for _, entity in found][::-1]

    def all(self, kind: str) -> list[Entity]:
        """Every entity of a type, by UID."""
        found = (entity for _, entity in self._store.with_prefix(f"{kind}/"))
        return sorted(found, key=lambda entity: entity["id"])

    def put(self, kind: str, entity: Entity) -> None:
        """Store an entity, which carries its UID as `id`."""
        self._store[_key(kind, entity["id"])] = entity

    def remove(self, kind: str, uid: int) -> None:
        """Forget an entity; no error if it is unknown."""
        self._store.pop(_key(kind, uid))

    def replace(self, kind: str, entities: Iterable[Entity]) -> None:
        """Make `entities` all there are of a type."""
        with self.transaction():
            for known in self.all(kind):
                self.remove(kind, known["id"])
            for entity in entities:
                self.put(kind, entity)

    def clear(self) -> None:
        """Forget everything: another member's view begins."""
        self._store.clear()

    @property
    def cursor(self) -> int:
        """Where the registry's change log was read up to; 0 at first."""
        return int(self._store.get("cursor", 0))

    @cursor.setter
    def cursor(self, value: int) -> None:
        self._store["cursor"] = value

    @property
    def fetched_at(self) -> str | None:
        """When this copy was last known to be current, ISO 8601 UTC."""
        moment: str | None = self._store.get("fetched_at")
        return moment

    @fetched_at.setter
    def fetched_at(self, moment: str) -> None:
        self._store["fetched_at"] = moment

    @property
    def me(self) -> Entity | None:
        """The member whose view this is, as the registry describes them."""
        member: Entity | None = self._store.get("me")
        return member

    @me.setter
    def me(self, member: Entity) -> None:
        self._store["me"] = member
