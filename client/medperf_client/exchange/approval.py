"""What the approval of a benchmark is of: the digest that its registry counts, from a copy."""

import hashlib
import json
from collections.abc import Callable

from medperf_client.kinds import PINS, ROLES, Entity

CONTENT = (
    *("name", "description", "docs_url", "metadata"),
    *("demo_dataset_tarball_hash", "demo_dataset_generated_uid"),
)
# A container by its UID, if it is known.
Lookup = Callable[[int], Entity | None]


def content_digest(benchmark: Entity, container: Lookup, with_uids: bool = True) -> str | None:
    """SHA-256, hexadecimal, of all that is fixed in a benchmark; None if some of it is not known.

    It is of JSON in ASCII with sorted keys and without white space: what the benchmark says of
    itself, and for each of its containers the `id` and the hashes that pin it. Without UIDs it is
    the same for a benchmark that was registered again.
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
