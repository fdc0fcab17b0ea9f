"""What a benchmark may say of its metrics, and what not: client and registry read the same."""

from typing import Any

AUROC = {
    "name": "auroc",
    "better": "higher",
    "range": [0, 1],
    "interval": {"low": "auroc_ci/0", "high": "auroc_ci/1", "level": 0.95, "scale": "logit"},
    "primary": True,
}
LOSS = {"name": "by class/loss", "better": "lower"}

GOOD: dict[str, list[Any]] = {
    "two": [LOSS, AUROC],
    "one": [LOSS],
    "half a range": [
        {**LOSS, "range": [0, None]},
        {"name": "x", "better": "lower", "range": [None, 3.5]},
    ],
    "no scale": [{**LOSS, "interval": {"low": "a", "high": "b"}}],
    "log": [{**LOSS, "interval": {"low": "a", "high": "b", "scale": "log", "level": 0.5}}],
    "none primary": [{**LOSS, "primary": False}],
}


def _interval(**changes: Any) -> list[Any]:
    return [{**AUROC, "interval": {**AUROC["interval"], **changes}}]  # type: ignore[dict-item]


# Each with the place that is named in the refusal.
BAD: dict[str, tuple[Any, str]] = {
    "no list": ("auroc", "metrics"),
    "nothing": ([], "metrics"),
    "too many": ([{**LOSS, "name": f"loss {n}"} for n in range(51)], "metrics"),
    "no mapping": ([AUROC, "auroc"], "metrics[1]"),
    "no name": ([{"better": "higher"}], "metrics[0].name"),
    "empty name": ([{**LOSS, "name": ""}], "metrics[0].name"),
    "long name": ([{**LOSS, "name": "x" * 201}], "metrics[0].name"),
    "odd name": ([{**LOSS, "name": "x\u202ey"}], "metrics[0].name"),
    "space": ([{**LOSS, "name": "loss "}], "metrics[0].name"),
    "number for a name": ([{**LOSS, "name": 1}], "metrics[0].name"),
    "no better": ([{"name": "auroc"}], "metrics[0].better"),
    "what better": ([{**LOSS, "better": "more"}], "metrics[0].better"),
    "unknown": ([{**LOSS, "higher": True}], "metrics[0]"),
    "primary": ([{**LOSS, "primary": "yes"}], "metrics[0].primary"),
    "two primary": ([AUROC, {**LOSS, "primary": True}], "metrics"),
    "twice": ([LOSS, LOSS], "metrics"),
    "range of one": ([{**LOSS, "range": [0]}], "metrics[0].range"),
    "range of nothing": ([{**LOSS, "range": [None, None]}], "metrics[0].range"),
    "range turned round": ([{**LOSS, "range": [1, 0]}], "metrics[0].range"),
    "range of words": ([{**LOSS, "range": ["0", "1"]}], "metrics[0].range"),
    "range of truth": ([{**LOSS, "range": [False, True]}], "metrics[0].range"),
    "range of too much": ([{**LOSS, "range": [0, 10**400]}], "metrics[0].range"),
    "no interval": ([{**LOSS, "interval": ["a", "b"]}], "metrics[0].interval"),
    "half an interval": ([{**LOSS, "interval": {"low": "a"}}], "metrics[0].interval.high"),
    "level": (_interval(level=95), "metrics[0].interval.level"),
    "level in words": (_interval(level="0.95"), "metrics[0].interval.level"),
    "scale": (_interval(scale="probit"), "metrics[0].interval.scale"),
    "key of interval": (_interval(width=1), "metrics[0].interval"),
    "logit": ([{**AUROC, "range": [0, None]}], "metrics[0].interval"),
}
