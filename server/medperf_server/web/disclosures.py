"""What a site checked and decided before it told of its data, as far as what it says can be read.

docs/disclosure.md has the form. Members write it, so nothing of it is taken for granted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medperf_server.readings import is_number, part

FIELD = "disclosure"
THRESHOLDS = ("min_count", "dominance", "min_words")
# By their places in what a site says, what was decided on findings.
DECISIONS = {
    "accepted": "accepted",
    "allowed": "allowed by the site's policy",
    "unresolved": "sent with a warning",
}
LEFT_OUT = "left out"
MOST, LONGEST = 200, 500


@dataclass(frozen=True)
class Decided:
    """What was decided on one key of a document, by which rule it was found, why, and when."""

    key: str
    rule: str
    decision: str
    because: str
    at: str


@dataclass(frozen=True)
class Disclosure:
    """A disclosure check: the version of its rules, its thresholds by name, what was decided.

    Of more decisions than MOST the first are told (`is_cut`).
    """

    rules: str
    thresholds: dict[str, str]
    decided: list[Decided]
    is_cut: bool


def disclosure_of(metadata: Any) -> Disclosure | None:
    """The check that metadata tell of; None if they tell of none."""
    said = part(metadata, FIELD)
    if not isinstance(said, dict):
        return None
    limits = part(said, "thresholds")
    thresholds = {name: _text(part(limits, name)) for name in THRESHOLDS}
    decided = list(islice(_decided(said), MOST + 1))
    return Disclosure(
        rules=_text(said.get("rules")),
        thresholds={name: value for name, value in thresholds.items() if value},
        decided=decided[:MOST],
        is_cut=len(decided) > MOST,
    )


def _decided(said: dict[str, Any]) -> Iterator[Decided]:
    for place, decision in DECISIONS.items():
        for one in _listed(said.get(place)):
            if isinstance(one, dict):
                told = [_text(one.get(name)) for name in ("key", "rule", "because", "at")]
                key, rule, because, at = told
                yield Decided(key, rule, decision, because, at)
    for key in _listed(said.get("redacted")):
        yield Decided(_text(key), "", LEFT_OUT, "", "")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """A text or a number as a page shows it; empty for all else."""
    if is_number(value):
        return f"{value:g}"
    text = value if isinstance(value, str) else ""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
