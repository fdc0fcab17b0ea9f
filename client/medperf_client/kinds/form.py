"""The form of what a registry sends: checked once, where it comes in."""

from collections.abc import Mapping
from typing import Any

from medperf_client.errors import Offline

Entity = dict[str, Any]
# The fields that are read, and the type of each. Registries send more.
Form = Mapping[str, type]
# What the catalog holds of a number.
MOST_NUMBER = 2**63 - 1


def formed(what: str, form: Form, value: Any, least: Mapping[str, int] | None = None) -> Entity:
    """`value`, which has a form. Raises `Offline`: no registry answers like that.

    A number is a UID, 1 at least, but for those whose `least` is told.
    """
    for name, expected in form.items():
        # `type`, because True is an int to isinstance.
        if not isinstance(value, dict) or type(value.get(name)) is not expected:
            raise _no_registry(f"{what} with no {name}")
        lowest = (least or {}).get(name, 1)
        if expected is int and not lowest <= value[name] <= MOST_NUMBER:
            raise _no_registry(f"{what} with an impossible {name}")
    return dict(value)


def _no_registry(sent: str) -> Offline:
    return Offline(
        f"what answers is no registry: it sent {sent}",
        hint="Check server_url with: medperf profile view",
    )
