"""What in a document counts cases, and what counts all of them."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from medperf_client.disclosure.documents import REDACTED, Node
from medperf_client.disclosure.vocabulary import (
    ATTRIBUTES,
    CLASSES,
    COLLECTIONS,
    COUNT,
    GROUPS,
    JOINT,
    NOT_COUNTED,
    PERSONS,
    SETTINGS,
    SPREAD,
    TABLES,
    UNITS,
    WHOLE,
    has,
    head,
    is_plural,
    words,
)

CASE = "case"
CONFUSION = frozenset({"tp", "fp", "tn", "fn", "confusion"})


@dataclass(frozen=True)
class Table:
    """Counts of groups that are told side by side: `cells` without what sums them up.

    `totals` are what sums them up, the nearest ones; `whole` is where in the document it is.
    """

    whole: Node
    cells: tuple[Node, ...]
    totals: tuple[Node, ...]


class Counts:
    """The counts of a document; `root` is the document.

    `tables` are the mappings and lists that hold counts and nothing else.
    """

    def __init__(self, root: Node) -> None:
        self._root = root
        self._totals: dict[Node, list[Node]] = {}
        self.tables = list(_tables(root))
        inside = {leaf for table in self.tables for leaf in table.leaves()}
        self._counts = {
            leaf
            for leaf in root.leaves()
            if leaf.whole is not None and (leaf in inside or _says(leaf))
        }
        for node in root.all():
            self._counts |= self._parts(node)

    def __contains__(self, node: Node) -> bool:
        return node in self._counts

    @cached_property
    def all(self) -> list[Node]:
        """Every number of cases, or of what cases have several of, in the document's order."""
        return [node for node in self._root.leaves() if node in self._counts]

    @cached_property
    def totals(self) -> list[Node]:
        """The numbers of all cases of the document, or of a part of it."""
        return [node for node in self.all if _is_total(node)]

    def total_for(self, node: Node) -> Node | None:
        """How many cases there are where a value is told: the nearest number of all cases."""
        found = self._above(node, {*UNITS, CASE})
        return found[0] if found else None

    def groups(self) -> Iterator[Table]:
        """Each row of counts that exclude each other, with what sums them up."""
        for table in self.tables:
            rows = [one for one in table.all() if len(one.below) > 1 and _is_flat(one)]
            for row in rows:
                cells, totals = _parted(row.below)
                if not totals and len(rows) == 1:
                    totals = self._above(table)
                yield Table(row, tuple(cells), tuple(totals))
            if len(rows) > 1:
                cells = [cell for row in rows for cell in _parted(row.below)[0]]
                yield Table(table, tuple(cells), tuple(self._above(table)))
        tables = {*self.tables}
        for node in self._root.all():
            yield from self._side_by_side(node)
            mine = [one for one in node.below if one in self._counts and node not in tables]
            cells = [one for one in mine if not _is_total(one) and unit(one) == CASE]
            totals = [one for one in mine if _is_total(one) and unit(one) == CASE]
            if cells and totals and node.is_mapping:
                yield Table(node, tuple(cells), tuple(totals))

    def _side_by_side(self, node: Node) -> Iterator[Table]:
        """Counts of one name in several parts of a mapping or list: one a class, one a group."""
        by_name: dict[str, list[Node]] = {}
        for part in node.below:
            for leaf in part.below if part.is_mapping else ():
                if leaf in self._counts and unit(leaf) == CASE:
                    by_name.setdefault(str(leaf.name), []).append(leaf)
        for leaves in by_name.values():
            wholes = [one for one in leaves if one.above and has(words(one.above.word), WHOLE)]
            cells = [one for one in leaves if one not in wholes]
            if len(cells) > 1 and _is_total(cells[0]):
                yield Table(node, tuple(cells), tuple(wholes or self._above(node, itself=True)))

    def _above(
        self, node: Node, units: Collection[str] = (CASE,), itself: bool = False
    ) -> list[Node]:
        """The nearest numbers of all cases around a node, or in it, too."""
        above = node if itself else node.above
        while above is not None:
            found = [one for one in self._totals_in(above) if unit(one) in units]
            if found:
                return found
            above = above.above
        return []

    def _totals_in(self, node: Node) -> list[Node]:
        """The totals right in a mapping, or in a part of it that is all of it."""
        if node not in self._totals:
            wholes = (one for one in node.below if has(words(one.word), WHOLE))
            parts = [node, *wholes] if node.is_mapping else []
            self._totals[node] = [
                leaf
                for part in parts
                for leaf in part.below
                if leaf in self._counts and _is_total(leaf)
            ]
        return self._totals[node]

    def _parts(self, node: Node) -> set[Node]:
        """Whole numbers with other names that make up the total which stands beside them."""
        if not node.is_mapping:
            return set()
        totals = [one for one in node.below if one in self._counts and _is_total(one)]
        found = [
            one
            for one in node.below
            if one.whole is not None
            and one not in totals
            and (one in self._counts or not has(words(one.word), NOT_COUNTED))
        ]
        makes_up = sum(one.whole or 0 for one in found) in {one.whole for one in totals}
        return set(found) if makes_up and len(found) > 1 else set()


def unit(node: Node) -> str:
    """What a count counts: cases, or something of which a case may have several."""
    found = [*words(node.word), *(words(node.above.word) if node.above else ())]
    if has(found[:], PERSONS):
        return CASE
    return next((word.removesuffix("s") for word in found if has([word], UNITS)), CASE)


def _says(leaf: Node) -> bool:
    """Whether a key says of its whole number that it is a count of cases."""
    all_words = words(leaf.word)
    found = head(all_words)
    if leaf.above is not None and leaf.above.is_mapping and _calls_classes(leaf.above):
        return False
    if len(found) > 1 and found[-1] in COUNT and any(word.isdigit() for word in found):
        return True
    if found == ["size"] and leaf.above is not None:
        return has(words(leaf.above.word), PERSONS | COLLECTIONS)
    if has(found, NOT_COUNTED) or has(all_words[len(found) :], SETTINGS):
        return False
    rest = [word for word in found if word not in COUNT and word != "of"]
    if rest and all(is_plural(word) and has([word], ATTRIBUTES | CLASSES) for word in rest):
        # How many sites or stages there are.
        return False
    named = [word for word in found if is_plural(word)] if "size" not in found else found
    return bool(found) and (
        found[0] in COUNT or found[-1] in COUNT or has(named, PERSONS | UNITS) or has(found, GROUPS)
    )


def _is_total(leaf: Node) -> bool:
    """Whether a count is of all there are, by its own words."""
    found = words(leaf.word)
    said = {"of", "all", "overall", "size", "notnans", *COUNT}
    return bool(found) and all(word in said or has([word], PERSONS | UNITS) for word in found)


def _tables(root: Node) -> Iterator[Node]:
    """The outermost tables of a document."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if _is_table(node):
            yield node
        else:
            waiting += reversed(node.below)


def _is_table(node: Node) -> bool:
    """Whether a mapping or list holds counts of groups, and nothing else."""
    if any(leaf.whole is None and leaf.value != REDACTED for leaf in node.leaves()):
        return False
    leaves = list(node.leaves())
    if not node.below or not leaves:
        return False
    found = head(words(node.word))
    if has(found, TABLES):
        return True
    if has(words(node.word), SETTINGS - CLASSES) or node.is_list:
        return node.is_list and _says(leaves[0])
    if len(leaves) < 2 or _calls_classes(node):
        return False
    if any(has(words(leaf.word), SPREAD | JOINT) for leaf in leaves):
        return False
    known = words(node.word)
    if has(found, NOT_COUNTED - CLASSES):
        return False
    return has(known, PERSONS | ATTRIBUTES) or has(found, CLASSES | GROUPS) or found[-1:] == ["n"]


def _calls_classes(node: Node) -> bool:
    """Whether a mapping only numbers classes: each has another number, from about 0 on."""
    if not has(words(node.word), CLASSES | SETTINGS):
        return False
    numbers = [one.whole for one in node.below]
    if any(number is None for number in numbers) or has(words(node.word), TABLES):
        return False
    distinct = len({*numbers}) == len(numbers)
    return distinct and max(number or 0 for number in numbers) <= 2 * len(numbers)


def _is_flat(node: Node) -> bool:
    return all(not one.below for one in node.below)


def _parted(cells: list[Node]) -> tuple[list[Node], list[Node]]:
    """What of a row are cells, and what sums them up."""
    totals = [
        one
        for one in cells
        if isinstance(one.name, str)
        and (has(words(one.name), WHOLE) or re.fullmatch("n", one.name))
    ]
    cells = [one for one in cells if one not in totals and not one.below]
    return cells, [one for one in totals if one.whole is not None]
