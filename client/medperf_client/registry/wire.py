"""The form of a registry's answers that are no entities."""

from typing import Any

from medperf_client.kinds.form import Entity, Form, formed

ANSWERS: dict[str, Form] = {
    "page": {"results": list},
    "version": {"version": str},
    "upload": {"upload": str, "offset_bytes": int},
    "changes": {"changes": list, "next": int, "more": bool},
    "change": {"type": str, "id": int},
}
# What is a number and no UID.
COUNTS = {"next": 0, "offset_bytes": 0}


def answered(what: str, value: Any) -> Entity:
    """`value`, which has the form of such an answer. Raises `Offline`: no registry says that."""
    return formed(what, ANSWERS[what], value, COUNTS)
