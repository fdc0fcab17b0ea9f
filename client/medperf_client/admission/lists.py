"""The lists of a site's policy that say whose benchmarks and which containers run on its data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medperf_client.kinds.container import PINS
from medperf_client.kinds.form import Entity

SECTION = "run"
BENCHMARKS, CONTAINERS = "benchmarks", "containers"
PREPARATORS, UNASKED = "preparators", "unasked"
REGISTRY = "registry"
# What an entry of each list may name; all that it names has to be so.
_CONTAINER = ("owner", "uid", *PINS, REGISTRY)
LISTS: Mapping[str, tuple[str, ...]] = {
    BENCHMARKS: ("owner", "uid", "name", REGISTRY),
    CONTAINERS: _CONTAINER,
    PREPARATORS: _CONTAINER,
    UNASKED: _CONTAINER,
}
_WHAT = {
    BENCHMARKS: "may not run on data of this site",
    CONTAINERS: "may not run on data of this site",
    PREPARATORS: "may not prepare data of this site",
    UNASKED: "may not run unasked on data of this site",
}


@dataclass(frozen=True)
class Named:
    """One entry of a list, from a `line` of the policy: what lets in all that has these fields."""

    fields: Mapping[str, Any]
    line: int = field(default=1, compare=False)

    def misses(self, entity: Entity, registry: str) -> list[str]:
        """The fields in which something is other than what the entry names."""
        known = {**entity, "uid": entity.get("id"), REGISTRY: registry.rstrip("/")}
        return [name for name, wanted in self.fields.items() if known.get(name) != wanted]


@dataclass(frozen=True)
class Listed:
    """One list, which begins at a `line` of the policy."""

    entries: tuple[Named, ...]
    line: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Admission:
    """What may run on data of a site. A list that is not there lets everything in.

    `file` is where the lists were read, for whoever is refused.
    """

    lists: Mapping[str, Listed] = field(default_factory=dict)
    file: str = field(default="", compare=False)

    def why_not(self, name: str, entity: Entity, registry: str) -> str:
        """Why a list does not let something in, with its line and what to change; empty if it does.

        `entity` is of the registry at that URL.
        """
        found = self.lists.get(name)
        if found is None or any(not one.misses(entity, registry) for one in found.entries):
            return ""
        word = "benchmark" if name == BENCHMARKS else "container"
        uid = f" {entity['id']}" if "id" in entity else ""
        owner = f" of member {entity['owner']}" if entity.get("owner") else ""
        where = f"{self.file}, line {found.line}: no entry of {SECTION}.{name} names it"
        nearest = _nearest(found, entity, registry)
        return (
            f"{word}{uid} ({entity.get('name', '')}){owner} {_WHAT[name]}. {where}{nearest}.\n"
            f"Whoever keeps the policy lets it in with an entry such as {_such_as(name, entity)}"
        )

    def record(self) -> dict[str, Any]:
        """The same as the file has it; `any` for a list that is not there."""
        return {
            name: [dict(one.fields) for one in self.lists[name].entries]
            if name in self.lists
            else "any"
            for name in LISTS
        }


def _nearest(found: Listed, entity: Entity, registry: str) -> str:
    """Which entry names it in part, and in what it is another than that."""
    known = {**entity, "uid": entity.get("id"), REGISTRY: registry.rstrip("/")}
    for one in found.entries:
        misses = one.misses(entity, registry)
        if len(misses) < len(set(one.fields) - {REGISTRY}):
            wrong = ", ".join(
                f"{name} {one.fields[name]}, not {known.get(name)}" for name in misses
            )
            return f"; that of line {one.line} comes near, and wants {wrong}"
    return ""


def _such_as(name: str, entity: Entity) -> str:
    """Entries that would let it in, as they are written."""
    fields = {"owner": entity.get("owner"), "uid": entity.get("id")}
    shown = [f"`- {key}: {value}`" for key, value in fields.items() if isinstance(value, int)]
    pins = [f"{key}: {entity[key]}" for key in PINS if entity.get(key)]
    if name != BENCHMARKS and pins:
        shown.append(f"`- {{{', '.join(pins)}}}`")
    return ", or ".join(shown) or "its owner's, once it is registered"
