"""What a member sends to a registry."""

from dataclasses import dataclass, field
from typing import Any

from medperf_cache.outbox import REFERENCE
from medperf_client.kinds.form import Entity

DEVELOPMENT, OPERATION = "DEVELOPMENT", "OPERATION"
PENDING, APPROVED, REJECTED = "PENDING", "APPROVED", "REJECTED"


@dataclass(frozen=True)
class Submission:
    """One write to the registry.

    `kind` is the type of the entity in the answer, as the catalog names it. `unknown` maps fields
    of the body that cannot be known without a network to the URL they come from. `uploads` are
    files of the cache, by SHA-256, that the registry stores before. `until` is what has to be so
    first, see `exchange.conditions`. One that `supersedes` takes the place of the last one that
    waits about the same thing, if it says all that this one says.
    """

    kind: str
    method: str
    path: str
    body: Entity
    unknown: dict[str, str] = field(default_factory=dict)
    uploads: tuple[str, ...] = ()
    until: Entity | None = None
    supersedes: bool = False


def told(disclosure: Entity | None) -> Entity:
    """What was checked of data before they were told of, as metadata; empty if nothing was."""
    return {} if disclosure is None else {"disclosure": disclosure}


def in_path(uid: Any) -> str:
    """A UID, or a reference to a queue entry, as a path holds it."""
    return f"{{{uid[REFERENCE]}}}" if isinstance(uid, dict) else str(uid)
