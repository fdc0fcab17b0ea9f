"""The released results of a benchmark, with what is known here of all that they are of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medperf_cache import Catalog
from medperf_client.errors import MedPerfError, UsageError
from medperf_client.evidence.statement import ROLES, keyid_of
from medperf_client.evidence.verdict import reviewers
from medperf_client.kinds import BENCHMARK, CONTAINER, DATASET, KEY, RESULT, Entity, kind_of
from medperf_client.kinds.result import REFERS, STATEMENT, said_of
from medperf_client.urls import without_password


@dataclass(frozen=True)
class Collection:
    """Results of one benchmark as they may go to others, by UID.

    `entities` are those that the results refer to, by kind and UID, and the public keys by which
    they are verified. `lacks` says in words what is not here. It is of the `registry` as it was
    `as_of`, ISO 8601 UTC. None of it says whose a dataset, a result or a key is, but statements of
    sites where two persons release, which name them.
    """

    registry: str
    as_of: str | None
    benchmark: Entity
    results: list[Entity]
    entities: dict[str, dict[int, Entity]]
    lacks: list[str]

    def of(self, kind: str, uid: int) -> Entity:
        """What is known of an entity; empty if nothing is."""
        return self.entities[kind].get(uid, {})

    def key_of(self, result: Entity) -> Entity:
        """The public key that a result is signed with; empty if it is unsigned or not here."""
        keyid = signed_by(result)
        keys = self.entities[KEY.name].values()
        return next((one for one in keys if keyid and one["keyid"] == keyid), {})


def collected(catalog: Catalog, registry: str, benchmark: int) -> Collection:
    """The released results of a benchmark that the member may see, of what the catalog holds.

    Opens no connection. Raises `UsageError` if it knows none.
    """
    known = catalog.get(BENCHMARK.name, benchmark)
    results = [one for one in catalog.all(RESULT.name) if one["benchmark"] == benchmark]
    if known is None or not results:
        are = (
            f"are no results of benchmark {benchmark}" if known else f"is no benchmark {benchmark}"
        )
        raise UsageError(
            f"there {are} here that you may see",
            hint="Bring the copy of the registry up to date with: medperf sync",
        )
    entities: dict[str, dict[int, Entity]] = {kind.name: {} for kind in (CONTAINER, DATASET)}
    lacks = []
    for kind, uid in dict.fromkeys(_named(known, results)):
        found = catalog.get(kind, uid)
        if found is None:
            lacks.append(f"{kind_of(kind).word} {uid} is not in the copy of the registry")
        else:
            entities[kind][uid] = _told(kind, found)
    entities[KEY.name], unverifiable = _keys(catalog, results)
    lacks += unverifiable
    return Collection(
        without_password(registry),
        catalog.fetched_at,
        _told(BENCHMARK.name, known),
        [_told(RESULT.name, one) for one in results],
        entities,
        lacks,
    )


def signed_by(result: Entity) -> str:
    """The `keyid` that a result's statement names; empty if it has none that can be read."""
    try:
        return keyid_of(said_of(result)[STATEMENT])
    except (KeyError, MedPerfError):
        return ""


def _keys(catalog: Catalog, results: list[Entity]) -> tuple[dict[int, Entity], list[str]]:
    """The keys that results are verified by, by UID; what is lacking for that, in words."""
    known = {one["keyid"]: one for one in catalog.all(KEY.name)}
    keys, lacks = {}, []
    for result in results:
        signer, this = signed_by(result), f"result {result['id']}"
        if not signer:
            lacks.append(f"{this} is unsigned")
            continue
        agreed = reviewers(said_of(result)[STATEMENT])
        for keyid in (signer, *agreed):
            if keyid in known:
                keys[known[keyid]["id"]] = _told(KEY.name, known[keyid])
            else:
                did = "signed" if keyid == signer else "agreed to"
                lacks.append(f"{keyid}, the key of who {did} {this}, is not known here")
    return keys, lacks


def _named(benchmark: Entity, results: list[Entity]) -> Iterator[tuple[str, int]]:
    """What a benchmark's results and their steps refer to, by kind and UID."""
    for column in (*ROLES.values(), "reference_model_mlcube"):
        yield CONTAINER.name, benchmark[column]
    for result in results:
        for field, kind in REFERS.items():
            if kind != BENCHMARK.name:
                yield kind, result[field]


def _told(kind: str, entity: Entity) -> Entity:
    """What others than its owner may know of an entity."""
    told = kind_of(kind).seen_by_all(entity) or entity
    hidden: tuple[str, ...] = ("owner",) if kind in (RESULT.name, KEY.name) else ()
    return {name: value for name, value in told.items() if name not in hidden}


def flags(result: Entity) -> dict[str, Any]:
    """Whether a result is partial, and whether it is still valid."""
    return {
        "is_partial": bool(said_of(result).get("partial", False)),
        "is_valid": result.get("is_valid") is not False,
    }
