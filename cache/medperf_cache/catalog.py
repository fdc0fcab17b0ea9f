"""The last known copy of a registry's entities, and up to where its change log was read."""

import atexit
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
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

    def stand_in(self) -> None:
        """Have what is written from here on go to a copy that is gone with this process.

        For where the catalog can only be read. The copy is among the temporary files.
        """
        # Imported late: hardly anybody needs it.
        from medperf_cache.scratch import temporary

        with ExitStack() as stack:
            folder = stack.enter_context(temporary()) / "catalog"
            self._store.copy_to(folder)
            self._store = open_store(folder)
            atexit.register(stack.pop_all().close)

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
        with self.transaction():
            losses = self.losses
            self._store.clear()
            self.losses = losses

    def doubt(self, kinds: Iterable[str]) -> None:
        """Have the change log read from its beginning; until then nothing of these types is sure.

        Everything stays to be worked with.
        """
        with self.transaction():
            for kind in kinds:
                for entity in self.all(kind):
                    self.doubt_one(kind, entity["id"])
            self.is_read_again = True
            self.cursor, self.log = 0, ""

    def doubt_one(self, kind: str, uid: int) -> None:
        """Have an entity in doubt until the change log tells of it."""
        self._store[f"doubt/{_key(kind, uid)}"] = None

    def confirm(self, kind: str, uid: int) -> bool:
        """Note that the registry told of an entity; whether it was in doubt until now."""
        key = f"doubt/{_key(kind, uid)}"
        in_doubt = key in self._store
        if in_doubt:
            self._store.pop(key)
        return in_doubt

    def doubted(self) -> list[tuple[str, int]]:
        """Types and UIDs of what is in doubt."""
        keys = [key.split("/") for key, _ in self._store.with_prefix("doubt/")]
        return [(kind, int(uid)) for _, kind, uid in keys]

    @property
    def is_read_again(self) -> bool:
        """Whether the change log was begun anew, and not read to its end since."""
        return bool(self._store.get("is_read_again", False))

    @is_read_again.setter
    def is_read_again(self, value: bool) -> None:
        self._store["is_read_again"] = value

    @property
    def losses(self) -> int:
        """How often it turned out that the registry may have lost something."""
        return int(self._store.get("losses", 0))

    @losses.setter
    def losses(self, value: int) -> None:
        self._store["losses"] = value

    @property
    def cursor(self) -> int:
        """Where the registry's change log was read up to; 0 at first."""
        return int(self._store.get("cursor", 0))

    @cursor.setter
    def cursor(self, value: int) -> None:
        self._store["cursor"] = value

    @property
    def log(self) -> str | None:
        """The digest of the change log at the cursor; empty if the registry tells none, None if
        what is here was read before digests were asked for."""
        digest: str | None = self._store.get("log")
        return digest

    @log.setter
    def log(self, digest: str) -> None:
        self._store["log"] = digest

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
