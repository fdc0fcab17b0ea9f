"""YAML that anybody may have written: bounded before anything is made of it, and unambiguous."""

import json
import re
from collections.abc import Callable
from datetime import date
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
    """What YAML 1.1 says, as plain values: what MedPerf reads in a configuration.

    Raises `ValueError` that says what is wrong with it.
    """
    return _load(text, _Loader)


def read_results(text: bytes) -> Any:
    """What a container wrote of its work, in JSON or in YAML: what is a number in either is one.

    A key that another one would be in JSON counts as written twice. Raises `ValueError` as `read`
    does.
    """
    try:
        found = _json(text)
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = _load(text, _Results)
    written = json.dumps(found, default=_date)
    # What is not a number, such as the AUROC of one class, is a word in JSON.
    return json.loads(written, parse_constant=str, object_pairs_hook=_once)


def _load(text: str | bytes, loader: "type[_Loader]") -> Any:
    try:
        _check_size(text)
        return yaml.load(text, loader)  # nosec B506 # a safe loader
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
                # 1, 1.0 and true are three keys in YAML, of which Python keeps one.
                if value in seen:
                    raise _wrong(f"the key '{key.value}' is there twice", key)
                seen.add(value)


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


class _Results(_Loader):
    """The same, but what JSON and YAML 1.2 take for a number is one, such as 1e-05."""


_Results.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def _wrong(what: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def _check_size(text: str | bytes) -> None:
    """Raise `ValueError` for what is, or with its aliases resolved would be, too large or endless.

    Events are looked at one after the other, and nothing is kept of them but what anchors hold.
    """
    if len(text) > MOST_BYTES:
        raise _too_large()
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
            raise _too_deep()
        if nodes > MOST_NODES or characters > MOST_BYTES:
            raise ValueError(
                f"it is larger than {MOST_NODES} values or {MOST_BYTES} bytes "
                "with its aliases resolved"
            )


def _json(text: bytes) -> Any:
    """What JSON says, within the bounds of YAML. Raises `JSONDecodeError` for what is none."""
    if len(text) > MOST_BYTES:
        raise _too_large()
    # Each value but the first comes after one of these. Texts may hold them, too: YAML is counted.
    if sum(map(text.count, (b",", b"[", b"{", b":"))) >= MOST_NODES:
        return _load(text, _Results)
    try:
        found = json.loads(text, parse_int=_integer, object_pairs_hook=_once)
    except RecursionError as error:
        raise _too_deep() from error
    _check_values(found)
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` if it has a key twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        found[key] = value
    return found


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of more than {MOST_DIGITS} digits")
    return int(digits)


def _check_values(found: object) -> None:
    """Raise `ValueError` for what JSON can say, and is refused in YAML: it is no text, or deep."""
    waiting = [(found, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, str):
            # Half of a pair of surrogates is no text.
            value.encode()
        elif isinstance(value, (dict, list)):
            if depth >= MOST_DEPTH:
                raise _too_deep()
            parts = [*value, *value.values()] if isinstance(value, dict) else value
            waiting += [(part, depth + 1) for part in parts]


def _date(value: object) -> str:
    """A date or time as JSON has it. Raises `TypeError` for what JSON has no form for."""
    if isinstance(value, date):
        return str(value)
    raise TypeError(f"JSON has no form for a {type(value).__name__}")


def _too_large() -> ValueError:
    return ValueError(f"it is larger than {MOST_BYTES} bytes")


def _too_deep() -> ValueError:
    return ValueError(f"its nesting is deeper than {MOST_DEPTH} levels")
