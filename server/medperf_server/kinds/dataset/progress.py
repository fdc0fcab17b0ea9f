"""How far a preparation is, as far as its report can be read: clients write what they like."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medperf_server.readings import cut, part

MOST = 50


@dataclass(frozen=True)
class Progress:
    """The state of a preparation, and the share of cases by the stage that they are in."""

    status: str
    stages: list[tuple[str, str]]


def progress(report: Any) -> Progress:
    """What a report says; of what it does not say, nothing."""
    status, told = part(report, "execution_status"), part(report, "progress")
    stages = told if isinstance(told, dict) else {}
    return Progress(cut(status) if isinstance(status, str) else "", list(_shares(stages)))


def _shares(stages: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, share in islice(stages.items(), MOST):
        if isinstance(share, str):
            yield cut(name), _rounded(share)


def _rounded(share: str) -> str:
    """A share as clients write it, `33.300000000000004%`, without the noise."""
    try:
        value = float(share.removesuffix("%"))
    except ValueError:
        return cut(share)
    return f"{value:.3g}%" if math.isfinite(value) else cut(share)
