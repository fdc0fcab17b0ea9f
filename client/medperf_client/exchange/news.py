"""What of the changes in the registry matters to one member."""

from medperf_cache import Catalog
from medperf_client.kinds import Entity, kind_of


class News:
    """Collects lines for the member of a catalog; a `Notice` for `sync.pull`."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # To who sees a registry for the first time everything is new, and nothing is news.
        self._first = catalog.fetched_at is None
        self.lines: list[str] = []

    def __call__(self, kind: str, before: Entity | None, after: Entity | None) -> None:
        """Look at one change: an entity as it was, and as it is."""
        if self._first:
            return
        self.lines += kind_of(kind).news(self, before, after)

    def owns(self, kind: str, uid: int) -> bool:
        """Whether an entity is the member's."""
        entity = self._catalog.get(kind, uid)
        return entity is not None and self.is_me(entity.get("owner"))

    def is_me(self, uid: object) -> bool:
        """Whether that is the member's UID."""
        me = self._catalog.me
        return me is not None and uid == me["id"]

    def all(self, kind: str) -> list[Entity]:
        """The entities of a kind."""
        return self._catalog.all(kind)
