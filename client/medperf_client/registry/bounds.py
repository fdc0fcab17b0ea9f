"""What a registry takes of one write, kept by who makes it: offline, a refusal comes days later."""

import json
from collections.abc import Callable

from medperf_client.errors import MedPerfError
from medperf_client.kinds.form import Entity

# Of a request's body, and of each JSON object in it, in compact form.
MOST_BODY_BYTES = 2 << 20
MOST_OBJECT_BYTES = 256 << 10
# Of a URL, in characters.
MOST_URL = 2048
# Objects and lists in one another; how many a registry reads depends on where its Python stands.
MOST_LEVELS = 200
WHOLE = "what is to be sent"
HINT = (
    "What the metrics container writes goes along: have it write less, such as means instead of a "
    "value for each case."
)


def check_bounds(body: Entity, is_plain: Callable[[], bool]) -> None:
    """Raise `MedPerfError` for a body that the registry would not take, however good its content.

    A plain MedPerf server, which is asked about only where it matters, bounds only the whole.
    """
    if _levels(body) > MOST_LEVELS:
        raise MedPerfError(
            f"what is to be sent is nested more than {MOST_LEVELS} levels deep", HINT
        )
    for name, value in body.items():
        size = _size(name, value, (",", ":")) if isinstance(value, dict) else 0
        if size > MOST_OBJECT_BYTES and not is_plain():
            raise _too_much(name, size, MOST_OBJECT_BYTES)
        is_url = isinstance(value, str) and name.endswith("_url")
        if is_url and len(value) > MOST_URL and not is_plain():
            said = f"{name} has {len(value)} characters, and the registry takes {MOST_URL}"
            raise MedPerfError(said, "Give it a shorter one.")
    size = _size(WHOLE, body, None)
    if size > MOST_BODY_BYTES:
        raise _too_much(WHOLE, size, MOST_BODY_BYTES)


def _levels(value: object) -> int:
    """How many objects and lists lie in one another, without recursion."""
    level, inner = 0, [value]
    while inner := [one for one in inner if isinstance(one, (dict, list))]:
        level += 1
        inner = [part for one in inner for part in (one.values() if isinstance(one, dict) else one)]
    return level


def _size(what: str, value: Entity, separators: tuple[str, str] | None) -> int:
    try:
        return len(json.dumps(value, separators=separators, allow_nan=False))
    except ValueError as error:
        raise MedPerfError(f"{what} cannot be sent as JSON: {error}") from error


def _too_much(what: str, size: int, most: int) -> MedPerfError:
    return MedPerfError(f"{what} has {size} bytes as JSON, and the registry takes {most}", HINT)
