"""Counts of groups: small ones, those that follow by subtraction, groups that share something."""

import math
from collections.abc import Iterator

from medperf_client.disclosure.counts import CASE, CONFUSION, Counts, Table, unit
from medperf_client.disclosure.documents import Node
from medperf_client.disclosure.finding import Finding
from medperf_client.disclosure.vocabulary import (
    JOINT,
    OTHER_SHARES,
    PERCENT,
    SETTINGS,
    SHARES,
    has,
    words,
)


def check(root: Node, counts: Counts, min_count: int) -> Iterator[Finding]:
    """Findings on counts and on shares of them; counts from 1 to `min_count` - 1 are small."""
    for node in counts.all:
        if node.whole and node.whole < min_count:
            yield Finding(
                node.key,
                "threshold",
                f"a count of {node.whole}: fewer than {min_count} tell of single persons",
            )
    for table in counts.groups():
        yield from _by_subtraction(table, min_count)
        yield from _shared(table)
    for node in root.leaves():
        yield from _of_share(node, counts, min_count)
        yield from _of_rate(node, counts, min_count)


def _by_subtraction(table: Table, min_count: int) -> Iterator[Finding]:
    """A small rest between what is shown of a table and its total, or between one cell and it."""
    shown = sum(cell.whole or 0 for cell in table.cells)
    for total in table.totals:
        all_of_it = total.whole or 0
        rest = all_of_it - shown
        if rest == 0:
            continue
        if len(table.cells) > 1 and 0 < rest < min_count:
            is_apart = table.whole.above is not None and total.above is not table.whole
            # The total of a part that is all of it is not in the table, but beside its rows.
            key = table.whole.key if is_apart and table.whole.key else total.key
            yield Finding(
                key,
                "differencing",
                f"{total.key} is {all_of_it}, what is shown of it makes {shown}: {rest} follow",
            )
            continue
        for cell in table.cells:
            left = all_of_it - (cell.whole or 0)
            if 0 < left < min_count and total.above is cell.above:
                yield Finding(
                    cell.key,
                    "differencing",
                    f"{total.key} is {all_of_it}, so {left} follow for all others",
                )


def _shared(table: Table) -> Iterator[Finding]:
    """A row with all of its cases in one cell: whoever is in it is known to be in that cell."""
    cells = table.cells
    if len(cells) < 2 or any(one.above is not cells[0].above for one in cells):
        return
    if not table.whole.is_mapping or has(
        [*words(table.whole.word), *(word for one in cells for word in words(one.word))], CONFUSION
    ):
        return
    full = [one for one in cells if one.whole]
    if len(full) == 1 and all(one.whole is not None for one in cells):
        yield Finding(
            table.whole.key or full[0].key,
            "class-disclosure",
            f"all {full[0].whole} of it are {full[0].name}, so that is known of each of them",
        )


def _of_share(node: Node, counts: Counts, min_count: int) -> Iterator[Finding]:
    """A share of cases: of all or none of them, or one from which a small count follows."""
    found = words(node.word)
    if node.number is None or not has(found, SHARES) or has(found, SETTINGS | OTHER_SHARES | JOINT):
        return
    whole = 100.0 if has(found, PERCENT) else 1.0
    if node.number in (0, whole):
        said = "none" if node.number == 0 else "all"
        yield Finding(
            node.key, "class-disclosure", f"{said} of the cases share this, so it is known of each"
        )
        return
    total = counts.total_for(node)
    if total is None or not total.whole or not 0 < node.number < whole:
        return
    small = _small(node.number / whole, _half(node.number) / whole, total.whole, min_count)
    if small:
        yield Finding(
            node.key,
            "differencing",
            f"{node.number:g} of {total.key}, which is {total.whole}, means a group of {small}",
        )


def _of_rate(node: Node, counts: Counts, min_count: int) -> Iterator[Finding]:
    """A rate of right answers among so few cases that one side of it has to be small.

    Of more than `2 * min_count` cases it is ordinary that a model errs on few, and that it does is
    no attribute of theirs: there no such rate is a finding.
    """
    found = words(node.word)
    if node.number is None or not 0 < node.number < 1:
        return
    total = None
    if found in (["accuracy"], ["acc"]):
        total = counts.total_for(node)
    elif found in (["recall"], ["sensitivity"]) and node.above is not None:
        total = next(
            (one for one in node.above.below if one.name in ("support", "positives")), None
        )
    if total is None or not total.whole or total.whole > 2 * min_count or unit(total) != CASE:
        return
    small = _small(node.number, _half(node.number), total.whole, min_count)
    if small:
        yield Finding(
            node.key,
            "differencing",
            f"{node.number:g} of {total.key}, which is {total.whole}, means a group of {small}",
        )


def _small(share: float, half: float, total: int, min_count: int) -> int:
    """The small count that a share, known up to `half`, means; 0 if that is not certain."""
    for value in (share, 1 - share):
        # A little more on both ends, for what floating point loses.
        least = math.ceil((value - half) * total - 1e-9)
        most = math.floor((value + half) * total + 1e-9)
        if 1 <= least <= most < min_count:
            return min(max(round(value * total), least), most)
    return 0


def _half(number: float) -> float:
    """Half a unit of a number's last digit.

    >>> _half(0.015), _half(12.5)
    (0.0005, 0.05)
    """
    text = repr(float(number))
    if "e" in text:
        return 0.0
    return 0.5 * 10.0 ** -len(text.partition(".")[2])
