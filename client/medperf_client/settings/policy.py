"""The policy of a site: what its staff laid down, in one file, on what may leave it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medperf_client.disclosure.rules import NAMES, Allowed, Rules
from medperf_client.errors import UsageError

REFUSE, WARN = "refuse", "warn"
HINT = "See docs/disclosure.md for what can be said, and try it with: medperf policy check FILE"


@dataclass(frozen=True)
class Policy:
    """What holds at a site. What `findings` of the disclosure check do: `refuse` or `warn`."""

    findings: str = REFUSE
    rules: Rules = field(default_factory=Rules)

    def record(self) -> dict[str, Any]:
        """The same as the file has it, with what is at its default."""
        allowed = [
            {"keys": one.keys, "rules": [*one.rules] or [*NAMES], "because": one.because}
            for one in self.rules.allowed
        ]
        numbers = self.rules.thresholds
        return {"disclosure": {"findings": self.findings, **numbers, "allow": allowed}}


def load_policy(file: Path) -> Policy:
    """Read a policy; that of a missing file is the default one.

    Raises `UsageError` that names the file, the line and what is wrong there.
    """
    if not file.exists():
        return Policy()
    try:
        return read_policy(file.read_bytes(), str(file))
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", HINT) from error


def read_policy(text: bytes, where: str) -> Policy:
    """What a policy says; see `load_policy`."""
    # Imported late: a site without a policy does not pay for it.
    import yaml

    from medperf_client import strict_yaml

    try:
        content = strict_yaml.read(text)
        root = yaml.compose(text.decode(), yaml.SafeLoader)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{where} cannot be read: {error}", HINT) from error
    if content is None:
        return Policy()
    return _Reader(where, root).policy(content)


class _Reader:
    """Reads one file; `root` is its YAML as nodes, which know their lines."""

    def __init__(self, where: str, root: Any) -> None:
        self._where, self._root = where, root

    def policy(self, content: object) -> Policy:
        values = self._section(content, (), ("disclosure",)).get("disclosure", {})
        known = ("findings", "min_count", "dominance", "min_words", "allow")
        above = ("disclosure",)
        found = self._section(values, above, known)
        expect = {
            "findings": ("refuse or warn", lambda one: one in (REFUSE, WARN)),
            "min_count": ("a whole number from 1 to 1000", _whole(1, 1000)),
            "min_words": ("a whole number from 1 to 1000", _whole(1, 1000)),
            "dominance": ("a share from 0 to 1", _is_share),
            "allow": ("a list", lambda one: isinstance(one, list)),
        }
        self._check(found, above, expect)
        allowed = tuple(
            self._allowed(one, (*above, "allow", place))
            for place, one in enumerate(found.get("allow", []))
        )
        numbers = {name: found[name] for name in Rules().thresholds if name in found}
        return Policy(found.get("findings", REFUSE), Rules(allowed=allowed, **numbers))

    def _allowed(self, content: object, above: tuple[str | int, ...]) -> Allowed:
        found = self._section(content, above, ("keys", "because", "rules"))
        for name in ("keys", "because"):
            if name not in found:
                raise self._wrong(above, f"{name} is missing")
        self._check(
            found,
            above,
            {
                "keys": ("a key path such as label_counts.*", _is_text),
                "because": ("a reason, in words", _is_text),
                "rules": (f"some of {', '.join(NAMES)}", _are_rules),
            },
        )
        return Allowed(found["keys"], found["because"], tuple(found.get("rules", ())))

    def _section(
        self, content: object, above: tuple[str | int, ...], known: tuple[str, ...]
    ) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise self._wrong(above, f"expected {', '.join(known)}, found {content!r}")
        for name in content:
            if name not in known:
                said = f"there is no setting {name!r}; the settings here are {', '.join(known)}"
                raise self._wrong((*above, name), said)
        return content

    def _check(
        self,
        found: dict[str, Any],
        above: tuple[str | int, ...],
        expect: dict[str, tuple[str, Callable[[Any], bool]]],
    ) -> None:
        for name, value in found.items():
            expected, is_right = expect[name]
            if not is_right(value):
                raise self._wrong((*above, name), f"{name} expects {expected}, found {value!r}")

    def _wrong(self, path: tuple[Any, ...], said: str) -> UsageError:
        return UsageError(f"{self._where}, line {self._line(path)}: {said}", HINT)

    def _line(self, path: tuple[Any, ...]) -> int:
        """The line of what lies at a path, or of the nearest around it."""
        import yaml

        node, line = self._root, 1
        for name in path:
            if isinstance(node, yaml.MappingNode):
                pairs = ((key, value) for key, value in node.value if key.value == str(name))
            elif isinstance(node, yaml.SequenceNode) and isinstance(name, int):
                pairs = ((value, value) for value in node.value[name : name + 1])
            else:
                break
            found = next(pairs, None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        return line


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda one: isinstance(one, int) and not isinstance(one, bool) and least <= one <= most


def _is_share(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value <= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_rules(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(one in NAMES for one in value)
