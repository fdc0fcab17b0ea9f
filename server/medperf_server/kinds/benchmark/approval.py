"""What the approval of a benchmark is of: a digest that rules, pages and `check` share."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy.orm import object_session

from medperf_server.kinds.benchmark.table import ROLES, Benchmark
from medperf_server.kinds.container.table import CONTENT as PINNED
from medperf_server.kinds.container.table import Container

# What of a benchmark, besides its containers, can never change in OPERATION.
CONTENT = (
    "name",
    "description",
    "docs_url",
    "demo_dataset_tarball_hash",
    "demo_dataset_generated_uid",
    "metadata_",
)
NOTHING: Mapping[str, Any] = MappingProxyType({})


def content_digest(benchmark: Benchmark, values: Mapping[str, Any] = NOTHING) -> str:
    """What approving a benchmark would approve, once `values` are set: a SHA-256, hexadecimal.

    It is of JSON with sorted keys and without white space, in ASCII: the fields of CONTENT by their
    names on the wire, and for each container its `id` and the hashes that pin it.
    """
    session = object_session(benchmark)
    assert session is not None

    def now(field: str) -> Any:
        return values.get(field, getattr(benchmark, field))

    content = {field.rstrip("_"): now(field) for field in CONTENT}
    for role in ROLES:
        container = session.get_one(Container, now(role))
        hashes = {field: getattr(container, field) for field in PINNED}
        content[role] = {"id": container.id, **hashes}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
