"""What of the changes in the registry matters to one member."""

from typing import Any

from medperf_cache import Catalog

Entity = dict[str, Any]


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
        if kind == "association":
            self._association(before, after)
        elif kind == "benchmark":
            self._benchmark(before, after)

    def _association(self, before: Entity | None, after: Entity | None) -> None:
        one = after or before
        if one is None:
            return
        pair = f"container {one['model_mlcube']} in benchmark {one['benchmark']}"
        if after is None:
            self.lines.append(f"the association of {pair} is gone from the registry")
        elif before is None and after["approval_status"] == "PENDING":
            if self._owns("benchmark", after["benchmark"]) and not self._mine(
                after, "initiated_by"
            ):
                self.lines.append(f"a request to decide: {pair}")
        elif before is None or before["approval_status"] != after["approval_status"]:
            self.lines.append(f"{pair} is {after['approval_status']}")
        elif before.get("priority") != after.get("priority"):
            self.lines.append(f"{pair} has priority {after.get('priority')}")

    def _benchmark(self, before: Entity | None, after: Entity | None) -> None:
        one = after or before
        if one is None or before is None or not self._concerns(one):
            return
        name = f"benchmark {one['id']} ({one['name']})"
        if after is None:
            self.lines.append(f"{name} is gone from the registry")
        elif before["approval_status"] != after["approval_status"]:
            self.lines.append(f"{name} is {after['approval_status']}")
        else:
            ignored = ("modified_at", "approved_at")
            fields = [f for f in after if f not in ignored and after[f] != before.get(f)]
            if fields:
                self.lines.append(f"{name} has changed: {', '.join(fields)}")

    def _concerns(self, benchmark: Entity) -> bool:
        """Whether the member owns the benchmark, or has a model in it."""
        return self._mine(benchmark) or any(
            association["benchmark"] == benchmark["id"]
            for association in self._catalog.all("association")
        )

    def _owns(self, kind: str, uid: int) -> bool:
        entity = self._catalog.get(kind, uid)
        return entity is not None and self._mine(entity)

    def _mine(self, entity: Entity, field: str = "owner") -> bool:
        me = self._catalog.me
        return me is not None and entity.get(field) == me["id"]
