"""What a member sends: containers, benchmarks, association requests and decisions on them."""

from dataclasses import dataclass, field
from typing import Any

from medperf_cache.outbox import Reference
from medperf_client.kinds import Entity, in_path

DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"


@dataclass(frozen=True)
class Submission:
    """One write to the registry.

    `kind` is the type of the entity in the answer, as the catalog names it. `unknown` maps fields
    of the body that cannot be known without a network to the URL they come from. `uploads` are
    files of the cache, by SHA-256, that the registry stores before.
    """

    kind: str
    method: str
    path: str
    body: Entity
    unknown: dict[str, str] = field(default_factory=dict)
    uploads: tuple[str, ...] = ()


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
) -> Submission:
    """A new benchmark, with the test of its whole workflow. `containers` are UIDs by field."""
    body = {
        "name": name,
        "description": description,
        "docs_url": docs_url,
        "demo_dataset_tarball_url": demo_url,
        "demo_dataset_tarball_hash": demo_hash,
        "demo_dataset_generated_uid": report["prepared_data"],
        **containers,
        "state": OPERATION if operational else DEVELOPMENT,
        "is_valid": True,
        "is_active": True,
        "metadata": test_metadata(report),
        "user_metadata": {},
        **({"is_private": True} if private else {}),
    }
    return Submission("benchmark", "POST", "/benchmarks/", body)


def benchmark_decision(uid: Reference, status: str, seen: str | None = None) -> Submission:
    """An administrator's APPROVED or REJECTED of a benchmark.

    `seen` is the digest of what they looked at, see `approval.content_digest`: if the benchmark is
    another by then, the registry refuses.
    """
    body = {"approval_status": status, **({"seen": seen} if seen else {})}
    return Submission("benchmark", "PUT", f"/benchmarks/{in_path(uid)}/", body)


def benchmark_invitation(uid: Reference, email: str) -> Submission:
    """Show a private benchmark to the member with this address."""
    return Submission("member", "POST", f"/benchmarks/{in_path(uid)}/members/", {"email": email})


def association_submission(model: Reference, benchmark: Reference, report: Entity) -> Submission:
    """A request that a model joins a benchmark, with the test that it passed."""
    body = {
        "model_mlcube": model,
        "benchmark": benchmark,
        "approval_status": PENDING,
        "metadata": test_metadata(report),
    }
    return Submission("association", "POST", "/mlcubes/benchmarks/", body)


def association_change(model: Reference, benchmark: Reference, **values: Any) -> Submission:
    """A change of the newest association of a pair: `approval_status`, `reason`, `priority`.

    With `id` it is that of the association that is meant: the registry refuses if a newer one is
    there by then.
    """
    path = f"/mlcubes/{in_path(model)}/benchmarks/{in_path(benchmark)}/"
    return Submission("association", "PUT", path, values)


def test_metadata(report: Entity) -> Entity:
    """A test as an association's metadata: MedPerf's `test_result`, and the steps behind it."""
    told = ("step", "source", "signed_by", "seconds", "image_id")
    return {
        "test_result": report["results"],
        "test_steps": [{key: step[key] for key in told if key in step} for step in report["steps"]],
    }
