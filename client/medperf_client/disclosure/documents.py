"""A document of values as a tree whose parts have names: the keys that people say."""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

REDACTED = "redacted"
# What is larger counts nobody, and can be more than floating point holds. It is no NaN either.
MOST_NUMBER = 1e15
# What needs no quotes within a key path.
_PLAIN = re.compile(r'[^.\[\]"*]+')


@dataclass(eq=False)
class Node:
    """One value of a document: `name` is its key or place in what is `above` it."""

    name: str | int
    value: Any
    above: "Node | None" = None
    below: list["Node"] = field(default_factory=list)

    @cached_property
    def key(self) -> str:
        """Its key path, such as `per_class[2]["0.5"].support`; empty for the document itself."""
        if self.above is None:
            return ""
        if isinstance(self.name, int):
            return f"{self.above.key}[{self.name}]"
        if not _PLAIN.fullmatch(self.name):
            return f"{self.above.key}[{json.dumps(self.name)}]"
        return f"{self.above.key}.{self.name}" if self.above.key else self.name

    @cached_property
    def word(self) -> str:
        """The nearest key that is a word: an item of a list is what the list is."""
        node = self
        while isinstance(node.name, int) and node.above is not None:
            node = node.above
        return str(node.name)

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it has items."""
        return isinstance(self.value, list)

    @property
    def number(self) -> float | None:
        """Its value as a number; None for all else, truth values and what measures nothing, too."""
        is_number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        return self.value if is_number and abs(self.value) < MOST_NUMBER else None

    @cached_property
    def whole(self) -> int | None:
        """Its value if it can be a count, as 57 or 57.0 can; else None."""
        number = self.number
        return int(number) if number is not None and number >= 0 and number % 1 == 0 else None

    def all(self) -> Iterator["Node"]:
        """It, then all that is below it, in the document's order."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.below)

    def leaves(self) -> Iterator["Node"]:
        """Those below it, or it, that hold no others."""
        return (node for node in self.all() if not (node.is_mapping or node.is_list))


def tree(document: Any) -> Node:
    """A document, such as JSON or YAML gives it, as nodes."""
    root = Node("", document)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        parts: Any = ()
        if node.is_mapping:
            parts = ((str(name), value) for name, value in node.value.items())
        elif node.is_list:
            parts = enumerate(node.value)
        node.below = [Node(name, value, node) for name, value in parts]
        waiting += node.below
    return root


def matches(key: str, pattern: str) -> bool:
    """Whether a key path is what a pattern says, in which `*` stands for any characters.

    >>> matches("label_counts.benign", "label_counts.*"), matches("a.n", "a")
    (True, False)
    """
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), key, re.DOTALL))


def without(document: Any, keys: Collection[str], unnamed: Collection[str] = ()) -> Any:
    """A copy in which the word `redacted` stands for the values of some key paths.

    Those that are `unnamed` among them go with their keys. The document itself stays as it is.
    """
    root = tree(json.loads(json.dumps(document)))
    for node in [one for one in root.all() if one.key in keys]:
        if node.above is None:
            continue
        if node.key in unnamed:
            del node.above.value[node.name]
        else:
            node.above.value[node.name] = REDACTED
    return root.value


def digest(document: Any) -> str:
    """SHA-256 of a document as JSON with sorted keys and no spaces, in ASCII."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()
