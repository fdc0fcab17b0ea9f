"""The results that runs at this site gave, released or not. They are no cache."""

import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medperf_client.errors import MedPerfError, UsageError
from medperf_client.files import read_versioned, versioned, write_atomically

FORMAT = 1
# The registry's UID for one of the queue's own, if it has given one by now.
RealUid = Callable[[int | str], int | str]


@dataclass(frozen=True)
class Result:
    """What one run of a model on a dataset gave.

    UIDs are the registry's, or the queue's (q7) of what it has not yet. `partial` says that the
    model failed on some of it. `made_of` is the digest of all that decided it. `predictions` and
    `local_outputs` are digests of private content; the latter is what metrics wrote for this site
    alone. `steps` are as in a test's report, and `used` is what they took where that was measured
    (see `execution.used`), which this site keeps for itself. It is `ordered` if nobody but a
    standing order asked for it. `entry` is what of the queue releases it, `released`
    the UID that it has in the registry.
    """

    name: str
    benchmark: int | str
    model: int | str
    dataset: int | str
    results: dict[str, Any]
    made_of: str
    partial: bool = False
    created_at: str = ""
    predictions: str = ""
    local_outputs: str = ""
    steps: list[dict[str, Any]] = field(default_factory=list)
    entry: str | None = None
    released: int | None = None
    number: int = 1
    is_only: bool = True
    ordered: bool = False
    used: dict[str, Any] | None = None

    @property
    def base(self) -> str:
        """MedPerf's local UID: `b1m4d3`."""
        return f"b{self.benchmark}m{self.model}d{self.dataset}"

    @property
    def uid(self) -> str:
        """Its local UID; of several of the same three, `b1m4d3-1`, `b1m4d3-2` and so on."""
        return self.base if self.is_only else f"{self.base}-{self.number}"

    @property
    def stored(self) -> dict[str, Any]:
        """What is kept of it; whether it is the only one is told by the others."""
        return {name: value for name, value in asdict(self).items() if name != "is_only"}

    def record(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"uid": self.uid, **self.stored}


class Results:
    """Keeps results below a folder; `real_uid` tells what the queue's own UIDs have become."""

    def __init__(self, folder: Path, real_uid: RealUid) -> None:
        self._folder, self._real_uid = folder, real_uid

    def add(self, result: Result, earlier: Iterable[Result]) -> Result:
        """Store the result of a run that has just ended.

        Whoever runs models is alone with their dataset, and knows its `earlier` results: to read
        all that there are for each that is added would take longer and longer.
        """
        now = datetime.now(timezone.utc)
        name = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        same = [one.number for one in earlier if one.base == result.base]
        number = max(same, default=0) + 1
        made = replace(
            result,
            name=name,
            created_at=now.isoformat(timespec="seconds"),
            number=number,
            is_only=not same,
        )
        self._store(made)
        return made

    def change(self, result: Result, **values: Any) -> Result:
        """Store a result with other values."""
        changed = replace(result, **values)
        self._store(changed)
        return changed

    def all(self) -> list[Result]:
        """Every result, oldest first."""
        found = [self._read(path) for path in self._folder.glob("*.json")]
        count = Counter(one.base for one in found)
        found = [replace(one, is_only=count[one.base] == 1) for one in found]
        return sorted(found, key=lambda one: (one.created_at, one.number))

    def newest(self) -> list[Result]:
        """Of each benchmark, model and dataset the last result."""
        return [*{one.base: one for one in self.all()}.values()]

    def get(self, uid: str) -> Result:
        """A result by its local UID; of several of the same three, `b1m4d3` is the newest.

        Raises `UsageError` if there is none.
        """
        found = [one for one in self.all() if uid in (one.uid, one.base)]
        if not found:
            raise UsageError(f"there is no result {uid!r} here", hint="See: medperf result ls")
        return found[-1]

    def bind(self) -> None:
        """Write down the UIDs that the registry has given by now, before the queue forgets them."""
        for path in self._folder.glob("*.json"):
            text = path.read_text(encoding="utf-8")
            result = self._read(path)
            if versioned(FORMAT, result.stored) != text:
                self._store(result)

    def used(self) -> set[str]:
        """The digests of the private content that results name."""
        found = {digest for one in self.all() for digest in (one.predictions, one.local_outputs)}
        return found - {""}

    def _store(self, result: Result) -> None:
        text = versioned(FORMAT, result.stored)
        write_atomically(self._folder / f"{result.name}.json", text)

    def _read(self, path: Path) -> Result:
        try:
            result = Result(**read_versioned(FORMAT, path))
            real = self._real_uid(result.entry) if result.entry else None
            return replace(
                result,
                benchmark=self._real_uid(result.benchmark),
                model=self._real_uid(result.model),
                dataset=self._real_uid(result.dataset),
                released=real if isinstance(real, int) else result.released,
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise MedPerfError(
                f"the result {path} cannot be read: {error}",
                "Delete it, and run the model again: what is remembered is not run twice.",
            ) from error
