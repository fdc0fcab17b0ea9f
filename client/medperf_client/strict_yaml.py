"""YAML that anybody may have written: bounded before anything is made of it, and unambiguous."""

from collections.abc import Callable
from typing import Any

import yaml

MOST_BYTES = 4 << 20
# With aliases and merge keys counted as what they stand for.
MOST_NODES = 100_000
MOST_DEPTH = 500
# Python turns numbers of up to 4,300 digits to text.
MOST_DIGITS = 4_000
MOST_NUMBER = 10**MOST_DIGITS
MERGE = "tag:yaml.org,2002:merge"


def read(text: str | bytes) -> Any:
    """What YAML says, as plain values. Raises `ValueError` that says what is wrong with it."""
    try:
        _check_size(text)
        return yaml.load(text, _Loader)  # nosec B506 # a safe loader
    except (yaml.YAMLError, ArithmeticError, RecursionError) as error:
        raise ValueError(str(error)) from error
    except (AttributeError, LookupError, TypeError) as error:
        # What PyYAML lets through for `!!bool maybe`, `!!timestamp x` and the like.
        raise ValueError("a value is not what its tag says") from error


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, but a key written twice is an error rather than overwritten."""

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self._flat: set[yaml.MappingNode] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what merge keys stand for in their place; before that, look for keys twice."""
        # Afterwards a key may be there twice: once merged, and once to take its place.
        if node not in self._flat:
            self._flat.add(node)
            self._check_keys(node)
        super().flatten_mapping(node)

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                value = "<<" if key.tag == MERGE else self.construct_object(key)
                # 1 is not 1.0, nor true: in YAML these are three keys.
                if (type(value), value) in seen:
                    raise _wrong(f"the key '{key.value}' is there twice", key)
                seen.add((type(value), value))


def _number(construct: Callable[[Any, yaml.ScalarNode], Any]) -> Callable[[Any, Any], Any]:
    """A constructor of numbers that Python can turn to text, and makes in no time."""

    def bounded(loader: Any, node: yaml.ScalarNode) -> Any:
        number = construct(loader, node) if len(node.value) <= MOST_DIGITS else None
        if number is None or (isinstance(number, int) and abs(number) >= MOST_NUMBER):
            raise _wrong(f"a number of more than {MOST_DIGITS} digits", node)
        return number

    return bounded


for _name in ("int", "float"):
    _construct = getattr(yaml.SafeLoader, f"construct_yaml_{_name}")
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _number(_construct))


def _wrong(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _check_size(text: str | bytes) -> None:
    """Raise `ValueError` for what is, or with its aliases resolved would be, too large or endless.

    Events are looked at one after the other, and nothing is kept of them but what anchors hold.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    nodes = characters = 0
    begun: list[tuple[str | None, int, int]] = []
    held: dict[str | None, tuple[int, int]] = {}
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, *_ in begun):
                raise ValueError(f"what the anchor {event.anchor!r} names holds itself")
            more_nodes, more_characters = held.get(event.anchor, (1, 0))
            nodes, characters = nodes + more_nodes, characters + more_characters
        elif isinstance(event, yaml.ScalarEvent):
            # Half of a pair of surrogates is no text.
            event.value.encode()
            nodes, characters = nodes + 1, characters + len(event.value)
            held[event.anchor] = (1, len(event.value))
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, nodes, characters))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, nodes_before, characters_before = begun.pop()
            held[anchor] = (nodes - nodes_before, characters - characters_before)
        if len(begun) > MOST_DEPTH:
            raise ValueError(f"its nesting is deeper than {MOST_DEPTH} levels")
        if nodes > MOST_NODES or characters > MOST_BYTES:
            raise ValueError(
                f"it is larger than {MOST_NODES} values or {MOST_BYTES} bytes "
                "with its aliases resolved"
            )
