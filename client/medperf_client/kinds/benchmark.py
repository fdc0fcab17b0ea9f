"""Benchmarks: three containers and a demo dataset, and what an approval of them is of."""

import hashlib
import json
import reprlib
from collections.abc import Callable, Iterator

from medperf_cache.outbox import Reference
from medperf_client.errors import MedPerfError
from medperf_client.kinds.association import test_metadata
from medperf_client.kinds.container import PINS
from medperf_client.kinds.form import Entity
from medperf_client.kinds.kind import Kind, Past, View
from medperf_client.kinds.metrics import KEY as METRICS
from medperf_client.kinds.submission import DEVELOPMENT, OPERATION, Submission, in_path

NAME = "benchmark"
# The containers of a benchmark.
ROLES = ("data_preparation_mlcube", "reference_model_mlcube", "data_evaluator_mlcube")
CONTENT = (
    *("name", "description", "docs_url", "metadata"),
    *("demo_dataset_tarball_hash", "demo_dataset_generated_uid"),
)
# MedPerf's word in a benchmark's metadata for demo data that are prepared data.
ALREADY_PREPARED = "demo_dataset_already_prepared"
# What the registry sets itself, and is no news.
OWN_TIMES = ("modified_at", "approved_at")
# A container by its UID, if it is known.
Lookup = Callable[[int], Entity | None]


def benchmark_submission(
    *,
    name: str,
    description: str,
    docs_url: str,
    demo_url: str,
    demo_hash: str,
    containers: dict[str, Reference],
    operational: bool,
    private: bool,
    report: Entity,
    metrics: list[Entity] | None = None,
) -> Submission:
    """A new benchmark, with the test of its whole workflow. `containers` are UIDs by field,
    `metrics` say what its metrics mean (see `kinds.metrics`)."""
    body = {
        "name": name,
        "description": description,
        "docs_url": docs_url,
        "demo_dataset_tarball_url": demo_url,
        "demo_dataset_tarball_hash": demo_hash,
        "demo_dataset_generated_uid": report["generated_uid"],
        **containers,
        "state": OPERATION if operational else DEVELOPMENT,
        "is_valid": True,
        "is_active": True,
        "metadata": {
            **({ALREADY_PREPARED: True} if report["already_prepared"] else {}),
            **test_metadata(report),
            **({METRICS: metrics} if metrics else {}),
        },
        "user_metadata": {},
        **({"is_private": True} if private else {}),
    }
    return Submission(NAME, "POST", BENCHMARK.path, body)


def already_prepared(benchmark: Entity) -> bool:
    """Whether the demo data of a benchmark are prepared data.

    Raises `MedPerfError` if it says neither yes nor no: what a test gives depends on it.
    """
    metadata = benchmark.get("metadata") or {}
    said = metadata.get(ALREADY_PREPARED, False) if isinstance(metadata, dict) else metadata
    if not isinstance(said, bool):
        raise MedPerfError(
            f"benchmark {benchmark['id']} ({benchmark['name']}): metadata.{ALREADY_PREPARED}: "
            f"expected true or false, found {reprlib.repr(said)}",
            hint="So it is not known whether its demo data have to be prepared. Ask its owner.",
        )
    return said


def benchmark_decision(uid: Reference, status: str, seen: str | None = None) -> Submission:
    """An administrator's APPROVED or REJECTED of a benchmark.

    `seen` is the digest of what they looked at, see `content_digest`: if the benchmark is
    another by then, the registry refuses.
    """
    body = {"approval_status": status, **({"seen": seen} if seen else {})}
    return Submission(NAME, "PUT", f"{BENCHMARK.path}{in_path(uid)}/", body, supersedes=True)


def content_digest(benchmark: Entity, container: Lookup, with_uids: bool = True) -> str | None:
    """SHA-256, hexadecimal, of all that is fixed in a benchmark; None if some of it is not known.

    It is of JSON in ASCII with sorted keys and without white space: what the benchmark says of
    itself, and for each of its containers the `id` and the hashes that pin it. Without UIDs it is
    the same for a benchmark that was registered again. The registry counts the same.
    """
    containers = {role: container(benchmark[role]) for role in ROLES}
    if None in containers.values() or not set(CONTENT) <= benchmark.keys():
        return None
    content = {field: benchmark[field] for field in CONTENT}
    for role, found in containers.items():
        assert found is not None
        pins = {field: found[field] for field in PINS}
        content[role] = {**({"id": found["id"]} if with_uids else {}), **pins}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def seen_digest(get: Callable[[str, int], Entity | None], uid: int | str) -> str | None:
    """The digest of a benchmark as its copy shows it; None if some of it is not there.

    `get` gives the copy of an entity. A registry that knows no such digests gets none.
    """
    known = get(NAME, uid) if isinstance(uid, int) else None
    if known is None or "approved_digest" not in known:
        return None
    return content_digest(known, lambda one: get("mlcube", one))


def _news(view: View, before: Entity | None, after: Entity | None) -> Iterator[str]:
    """What becomes of a benchmark that the member owns, or has a model in."""
    one = after or before
    if one is None or before is None or not _concerns(view, one):
        return
    name = f"benchmark {one['id']} ({one['name']})"
    if after is None:
        yield f"{name} is gone from the registry"
    elif before["approval_status"] != after["approval_status"]:
        yield f"{name} is {after['approval_status']}"
    else:
        fields = [f for f in after if f not in OWN_TIMES and after[f] != before.get(f)]
        if fields:
            yield f"{name} has changed: {', '.join(fields)}"


def _concerns(view: View, benchmark: Entity) -> bool:
    return view.is_me(benchmark.get("owner")) or any(
        one["benchmark"] == benchmark["id"] for one in view.all("association")
    )


def _again(path: str, body: Entity, answer: Entity, past: Past) -> Entity:
    """A decision is on what was looked at: on what is the same but for UIDs, told by its digest."""
    if "seen" not in body:
        return body
    uid = int(path.split("/")[2])
    before = past.lost(NAME, uid) or past.now(NAME, uid)
    now = past.now(NAME, past.successor(NAME, uid))
    if before is None or now is None:
        raise MedPerfError(f"benchmark {uid} that it decides is not known here any more")

    def was(container: int) -> Entity | None:
        return past.lost("mlcube", container) or past.now("mlcube", container)

    def is_now(container: int) -> Entity | None:
        return past.now("mlcube", container)

    then = content_digest(before, was, with_uids=False)
    if then is None or then != content_digest(now, is_now, with_uids=False):
        raise MedPerfError(
            f"benchmark {now['id']} ({now['name']}) is not what was looked at: decide it anew"
        )
    return {**body, "seen": content_digest(now, is_now)}


BENCHMARK = Kind(
    name=NAME,
    word="benchmark",
    form={
        **dict.fromkeys(("name", "state", "approval_status", "description"), str),
        **dict.fromkeys(("demo_dataset_tarball_url", "demo_dataset_tarball_hash"), str),
        **dict.fromkeys(("id", "owner", *ROLES), int),
    },
    path="/benchmarks/",
    listed="/benchmarks/",
    mine="/me/benchmarks/",
    step="benchmarks",
    refers=dict.fromkeys(ROLES, "mlcube"),
    unique=("name", *ROLES, "demo_dataset_tarball_hash"),
    pins=("demo_dataset_generated_uid",),
    content=("demo_dataset_tarball_hash",),
    is_public=True,
    only_keyed=lambda body: bool(body.get("is_private")),
    news=_news,
    again=_again,
)
