"""The form of what a registry sends: checked once, where it comes in."""

from typing import Any

from medperf_client.errors import Offline

Entity = dict[str, Any]
# What the catalog holds of a number.
MOST_NUMBER = 2**63 - 1
# What is a number and no UID; a UID is 1 at least.
COUNTS = ("next", "offset_bytes")

# What this client reads of each type. MedPerf's servers and ours send more.
FIELDS: dict[str, dict[str, type]] = {
    "benchmark": {
        **dict.fromkeys(("name", "state", "approval_status", "description"), str),
        **dict.fromkeys(("demo_dataset_tarball_url", "demo_dataset_tarball_hash"), str),
        **dict.fromkeys(("data_preparation_mlcube", "reference_model_mlcube"), int),
        **dict.fromkeys(("id", "owner", "data_evaluator_mlcube"), int),
    },
    "mlcube": {
        **dict.fromkeys(("name", "state", "git_mlcube_url", "mlcube_hash"), str),
        **dict.fromkeys(("git_parameters_url", "parameters_hash", "image_hash"), str),
        **dict.fromkeys(("image_tarball_url", "image_tarball_hash"), str),
        **dict.fromkeys(("additional_files_tarball_url", "additional_files_tarball_hash"), str),
        **dict.fromkeys(("id", "owner"), int),
        "is_valid": bool,
    },
    "association": {
        **dict.fromkeys(("id", "model_mlcube", "benchmark"), int),
        "approval_status": str,
    },
    "model": {"model_mlcube": int, "approval_status": str},
    "pair": {"model_mlcube": int, "benchmark": int},
    "user": {"id": int, "email": str},
    "member": {"user": int, "email": str},
    "page": {"results": list},
    "version": {"version": str},
    "upload": {"upload": str, "offset_bytes": int},
    "changes": {"changes": list, "next": int, "more": bool},
    "change": {"type": str, "id": int},
}


def checked(kind: str, value: Any) -> Entity:
    """`value`, which has the form of its kind. Raises `Offline`: no registry answers like that."""
    for name, expected in FIELDS.get(kind, {"id": int}).items():
        # `type`, because True is an int to isinstance.
        if not isinstance(value, dict) or type(value.get(name)) is not expected:
            raise _no_registry(f"{kind} with no {name}")
        if expected is int and not _least(kind, name) <= value[name] <= MOST_NUMBER:
            raise _no_registry(f"{kind} with an impossible {name}")
    return dict(value)


def _least(kind: str, name: str) -> int:
    """Associations that come without an ID get one here, below zero."""
    if (kind, name) == ("association", "id"):
        return -MOST_NUMBER
    return 0 if name in COUNTS else 1


def _no_registry(sent: str) -> Offline:
    return Offline(
        f"what answers is no registry: it sent {sent}",
        hint="Check server_url with: medperf profile view",
    )
