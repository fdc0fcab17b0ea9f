"""Values that are one case's own: extremes, parts of sums, and lists with one for each case."""

from collections.abc import Iterator

from medperf_client.disclosure.counts import Counts
from medperf_client.disclosure.documents import Node
from medperf_client.disclosure.finding import Finding
from medperf_client.disclosure.vocabulary import (
    EXTREMES,
    JOINT,
    OF_EACH_CASE,
    PERSONS,
    SETTINGS,
    UNITS,
    has,
    head,
    words,
)

TOTAL = frozenset({"sum", "total"})
LARGEST = frozenset({"max", "maximum", "largest"})
ENDS = frozenset({"p0", "p100", "0percentile", "100percentile", "q0", "q100"})
# What a curve is drawn over: so many of it for each case, on average.
AVERAGED = frozenset({"fp", "fps", "froc", "ms", "time", "second"})


def check(root: Node, counts: Counts, dominance: float) -> Iterator[Finding]:
    """Findings on single values; `dominance` is the share of a sum that one case may have."""
    sizes = {total.whole or 0: total for total in counts.totals}
    inside = {node for table in counts.tables for node in table.all()}
    for node in root.all():
        if node.above is None:
            continue
        if _is_extreme(node) and node not in counts:
            yield Finding(
                node.key, "extremes", "the smallest or largest value of a group is one case's own"
            )
        yield from _dominating(node, counts, dominance)
        if node not in inside:
            yield from _of_each(node, sizes)


def _is_extreme(node: Node) -> bool:
    """Whether it is a minimum, a maximum, or both ends, of what was measured case by case."""
    if not isinstance(node.name, str):
        return False
    found = words(node.name)
    is_ends = (
        node.is_list and len(node.below) == 2 and all(one.number is not None for one in node.below)
    )
    if not (has(found, EXTREMES | ENDS) and (node.number is not None or is_ends)):
        return False
    above = node.above
    rest = [word for word in found if not has([word], EXTREMES | ENDS)]
    if not rest and above is not None:
        rest = words(above.word)
    around = words(above.word) if above is not None else []
    return not has(rest, SETTINGS | JOINT) and not has(around, SETTINGS)


def _dominating(node: Node, counts: Counts, most: float) -> Iterator[Finding]:
    """The largest value, if it is known to make up more than `most` of the sum of all."""
    found = words(node.word)
    if node.number is None or node.above is None or not isinstance(node.name, str):
        return
    share = None
    if has(found, LARGEST) and has(found, frozenset({"share"})):
        share = node.number
    elif has(found, LARGEST):
        total = _sum(node, counts)
        share = node.number / total if total else None
    if share is not None and most < share <= 1:
        yield Finding(node.key, "dominance", f"one case makes up {share:.0%} of the sum of all")


def _sum(largest: Node, counts: Counts) -> float | None:
    """The sum that a largest value is part of: as it stands beside it, or from mean and number."""
    rest = {word for word in words(largest.word) if word not in LARGEST}
    beside = {
        kind: one.number
        for one in (largest.above.below if largest.above else ())
        for kind in ("sum", "total", "mean")
        if {*words(one.word)} == rest | {kind} and one.number
    }
    if beside.keys() & TOTAL:
        return beside.get("sum", beside.get("total"))
    size = counts.total_for(largest)
    return beside["mean"] * size.whole if "mean" in beside and size and size.whole else None


def _of_each(node: Node, sizes: dict[int, Node]) -> Iterator[Finding]:
    """A list or mapping that holds something for each case."""
    if not (node.is_list or node.is_mapping) or len(node.below) < 2:
        return
    found = words(node.word) if isinstance(node.name, str) else []
    # Of what is nested, only the whole is told.
    if node.above is not None and node.above.is_list and not node.is_mapping:
        return
    total = sizes.get(len(node.below))
    is_of_each = isinstance(node.name, str) and (
        "_".join(found) in OF_EACH_CASE or _tells_each(found) or _lists(node, found)
    )
    if is_of_each:
        yield Finding(node.key, "individual", f"its {len(node.below)} values are of one case each")
    elif total is not None and node.is_list:
        yield Finding(
            node.key,
            "individual",
            f"it has as many values as {total.key}, {total.whole}: one for each case",
        )


def _lists(node: Node, found: list[str]) -> bool:
    """Whether it is a list of cases: as `cases: [{...}, {...}]`."""
    is_of_mappings = node.is_list and all(one.is_mapping for one in node.below)
    return is_of_mappings and has(found[-1:], PERSONS | UNITS)


def _tells_each(found: list[str]) -> bool:
    """Whether words say that there is a value for each case: `dice per case`, `case results`."""
    told = head(found)
    if len(told) < len(found):
        return has(found[len(told) :], PERSONS | UNITS) and not has(told, AVERAGED)
    return (
        len(found) > 1
        and has(found[:1], PERSONS | UNITS)
        and has(
            found[1:], frozenset({"score", "result", "value", "metric", "list", "detail", "dice"})
        )
    )
