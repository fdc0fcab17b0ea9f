"""Numbers that people type into forms, and that the queries of pages hold."""

import re

from medperf_server.config import MAX_UID


def whole(text: str, most: int = MAX_UID) -> int | None:
    """A whole number from 0 to `most` that was typed; None for anything else."""
    # As many digits as the largest has, besides zeros before it: int() refuses thousands.
    match = re.fullmatch("0*([0-9]{1,19})", text)
    return int(match[1]) if match and int(match[1]) <= most else None
