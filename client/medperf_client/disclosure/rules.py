"""The rules, by the terms of trusted research environments, and what they find in a document.

Sources: ACRO and SACRO (https://github.com/AI-SDC) for threshold, dominance, class disclosure,
minimum and maximum; Griffiths et al., Handbook on Statistical Disclosure Control for Outputs (2019)
for small counts by differencing, and for what lists of single values tell.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from medperf_client.disclosure import tables, texts, values
from medperf_client.disclosure.counts import Counts
from medperf_client.disclosure.documents import matches, tree
from medperf_client.disclosure.finding import Finding

# Counted up when the same document may give other findings than before.
VERSION = 1
NAMES = {
    "threshold": "a count of fewer than `min_count` cases",
    "differencing": "a small count that follows from other figures by subtraction",
    "class-disclosure": "all cases of a group, or none, share something",
    "extremes": "the smallest or the largest value, which is one case's own",
    "dominance": "one case makes up most of a sum",
    "individual": "a value for each case",
    "text": "free text",
    "path": "a path or the name of a file",
    "identifier": "what identifies a person, an examination or a case",
    "date": "a date in somebody's life",
}


@dataclass(frozen=True)
class Allowed:
    """Key paths that may be told, with `*` for any characters; by some of the rules, or by all."""

    keys: str
    because: str
    rules: tuple[str, ...] = ()

    def covers(self, finding: Finding) -> bool:
        """Whether it allows what was found."""
        return matches(finding.key, self.keys) and (not self.rules or finding.rule in self.rules)


@dataclass(frozen=True)
class Rules:
    """What is asked of a document.

    Counts from 1 to `min_count` - 1 are small. `dominance` is the share of a sum that one case may
    have, from 0 to 1. Texts of `min_words` words or more are free text. What is `allowed` is no
    finding.
    """

    min_count: int = 10
    dominance: float = 0.5
    min_words: int = 5
    allowed: tuple[Allowed, ...] = field(default=())

    @property
    def thresholds(self) -> dict[str, Any]:
        """The numbers of it, as a release tells them."""
        return {name: value for name, value in asdict(self).items() if name != "allowed"}


def check(document: Any, rules: Rules) -> list[Finding]:
    """What in a document would tell of single persons, in its order; empty for a clean one.

    `document` is what JSON or YAML can say. What the rules allow is left out. It sees keys and
    values only, so it knows a count by the words of its key: what is called otherwise is not found.
    """
    return [one for one in every(document, rules) if not any(a.covers(one) for a in rules.allowed)]


def every(document: Any, rules: Rules) -> list[Finding]:
    """The same with what the rules allow."""
    root = tree(document)
    counts = Counts(root)
    order = {node.key: place for place, node in enumerate(root.all())}
    found: Iterator[Finding] = (
        finding
        for part in (
            tables.check(root, counts, rules.min_count),
            values.check(root, counts, rules.dominance),
            texts.check(root, rules.min_words),
        )
        for finding in part
    )
    first: dict[tuple[str, str], Finding] = {}
    for finding in found:
        first.setdefault((finding.key, finding.rule), finding)
    return sorted(first.values(), key=lambda one: (order[one.key], [*NAMES].index(one.rule)))
