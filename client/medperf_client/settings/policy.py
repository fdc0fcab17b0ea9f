"""The policy of a site: what its staff laid down, in one file, on what runs there and leaves it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medperf_client import urls
from medperf_client.admission.lists import LISTS, REGISTRY, SECTION, Admission, Listed, Named
from medperf_client.disclosure.rules import NAMES, Allowed, Rules
from medperf_client.errors import UsageError
from medperf_client.files import is_absent

REFUSE, WARN = "refuse", "warn"
ANY = "any"
# What values of settings have to be, in words, and whether one is that.
Expected = dict[str, tuple[str, Callable[[Any], bool]]]
HINT = "See docs/disclosure.md for what can be said, and try it with: medperf policy check FILE"


@dataclass(frozen=True)
class Release:
    """How many `persons` a release takes; the second is one of the `reviewers`, UIDs of members.

    None for any member. `where` is the line that says so.
    """

    persons: int = 1
    reviewers: tuple[int, ...] | None = None
    where: str = field(default="", compare=False)

    def record(self) -> dict[str, Any]:
        """The same as the file has it."""
        return {
            "persons": self.persons,
            "reviewers": ANY if self.reviewers is None else [*self.reviewers],
        }


@dataclass(frozen=True)
class Policy:
    """What holds at a site. What `findings` of the disclosure check do: `refuse` or `warn`.

    `admission` says what may run on data of the site, `release` who has to agree to what leaves it.
    """

    findings: str = REFUSE
    rules: Rules = field(default_factory=Rules)
    admission: Admission = field(default_factory=Admission)
    release: Release = field(default_factory=Release)

    def record(self) -> dict[str, Any]:
        """The same as the file has it, with what is at its default."""
        allowed = [
            {"keys": one.keys, "rules": [*one.rules] or [*NAMES], "because": one.because}
            for one in self.rules.allowed
        ]
        numbers = self.rules.thresholds
        disclosure = {"findings": self.findings, **numbers, "allow": allowed}
        run, release = self.admission.record(), self.release.record()
        return {SECTION: run, "release": release, "disclosure": disclosure}


def load_policy(file: Path) -> Policy:
    """Read a policy; that of a missing file is the default one.

    Raises `UsageError` that names the file, the line and what is wrong there.
    """
    try:
        if is_absent(file):
            return Policy()
        text = file.read_bytes()
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", HINT) from error
    return read_policy(text, str(file))


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
        found = self._section(content, (), (SECTION, "release", "disclosure"))
        findings, rules = self._disclosure(found.get("disclosure", {}))
        release = self._release(found.get("release", {}))
        return Policy(findings, rules, self._admission(found.get(SECTION, {})), release)

    def _release(self, values: object) -> Release:
        above = ("release",)
        found = self._section(values, above, ("persons", "reviewers"))
        expect: Expected = {
            "persons": ("1 or 2", _whole(1, 2)),
            "reviewers": ("any, or UIDs of members such as [4, 7]", _are_uids),
        }
        self._check(found, above, expect)
        chosen = found.get("reviewers", ANY)
        where = f"{self._where}, line {self._line((*above, 'persons'))}"
        return Release(found.get("persons", 1), None if chosen == ANY else tuple(chosen), where)

    def _admission(self, values: object) -> Admission:
        found = self._section(values, (SECTION,), tuple(LISTS))
        lists = {name: self._listed(name, one) for name, one in found.items() if one != ANY}
        return Admission(lists, self._where)

    def _listed(self, name: str, values: object) -> Listed:
        above = (SECTION, name)
        if not isinstance(values, list):
            raise self._wrong(above, f"{name} expects {ANY} or a list, found {values!r}")
        entries = (self._named(name, one, (*above, at)) for at, one in enumerate(values))
        return Listed(tuple(entries), self._line(above))

    def _named(self, name: str, content: object, above: tuple[str | int, ...]) -> Named:
        found = self._section(content, above, LISTS[name])
        if not found:
            raise self._wrong(above, f"it names nothing: give some of {', '.join(LISTS[name])}")
        expect: Expected = {key: ("a SHA-256 in lower case", _is_digest) for key in LISTS[name]}
        expect |= dict.fromkeys(("owner", "uid"), ("a UID, such as 4", _whole(1, 10**18)))
        expect["name"] = ("a name", _is_text)
        expect[REGISTRY] = ("the URL of a registry", _is_url)
        self._check(found, above, expect)
        # As URLs are told apart, and digests are kept.
        given = {key: str(one).rstrip("/").removeprefix("sha256:") for key, one in found.items()}
        kept = {key: found[key] if key in ("owner", "uid", "name") else given[key] for key in found}
        return Named(kept, self._line(above))

    def _disclosure(self, values: object) -> tuple[str, Rules]:
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
        return found.get("findings", REFUSE), Rules(allowed=allowed, **numbers)

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
        expect: Expected,
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


def _are_uids(value: Any) -> bool:
    is_uid = _whole(1, 10**18)
    return value == ANY or (isinstance(value, list) and bool(value) and all(map(is_uid, value)))


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("(sha256:)?[0-9a-f]{64}", value))


def _is_url(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(urls.split(value))
    except ValueError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _are_rules(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(one in NAMES for one in value)
