"""The kinds of entities there are: where they are listed, what tells them apart, what they name."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from medperf_cache.outbox import REFERENCE
from medperf_client.wire import Entity

# What a plain MedPerf server lists, by the type names of the change log.
LISTS = {
    "benchmark": "/benchmarks/",
    "mlcube": "/mlcubes/",
    "association": "/me/mlcubes/associations/",
}
# The catalog's copies of `/benchmarks/<id>/models/`, by the benchmark's UID.
MODELS = "models"
# What people call them.
WORDS = {
    "benchmark": "benchmark",
    "mlcube": "container",
    "association": "request",
    "member": "invitation",
}
# The containers of a benchmark, and what pins a container's content.
ROLES = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")
PINS = (
    *("mlcube_hash", "parameters_hash", "image_hash", "image_tarball_hash"),
    "additional_files_tarball_hash",
)
# What tells an entity from all others on a server that knows no keys.
UNIQUE = {
    "mlcube": ("name", *PINS),
    "benchmark": ("name", *ROLES, "demo_dataset_tarball_hash"),
}
# Of what a field, or the step of a path, holds the UID.
NAMED = {
    "model_mlcube": "mlcube",
    **dict.fromkeys(ROLES, "mlcube"),
    "benchmark": "benchmark",
    "mlcubes": "mlcube",
    "benchmarks": "benchmark",
}
# Gives what stands for a UID of a kind: another one, or a reference to a queue entry.
Renamed = Callable[[str, int], Any]


def described(kind: str, entity: Entity) -> str:
    """An entity in words, such as `container 5 (my-model)`."""
    if kind == "association":
        return f"request: container {entity['model_mlcube']} in benchmark {entity['benchmark']}"
    name = entity.get("name") or entity.get("email")
    known = [WORDS[kind], entity.get("id"), f"({name})" if name else None]
    return " ".join(str(word) for word in known if word)


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


def renamed(path: str, body: Entity, uid_of: Renamed) -> tuple[str, Entity]:
    """Path and body of a write with `uid_of` in place of every container's and benchmark's UID.

    For example `/mlcubes/5/benchmarks/1/` may become `/mlcubes/{q2}/benchmarks/1/`.
    """
    steps = path.split("/")
    for place in range(1, len(steps)):
        kind = NAMED.get(steps[place - 1])
        if kind and steps[place].isdecimal():
            steps[place] = in_path(uid_of(kind, int(steps[place])))
    changed = {
        name: uid_of(NAMED[name], value) if name in NAMED and isinstance(value, int) else value
        for name, value in body.items()
    }
    return "/".join(steps), changed


def in_path(uid: Any) -> str:
    """A UID, or a reference to a queue entry, as a path holds it."""
    return f"{{{uid[REFERENCE]}}}" if isinstance(uid, dict) else str(uid)
